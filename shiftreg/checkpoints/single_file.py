"""One layout, both directions: where each tensor of a diffusers folder lies in a single file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shiftreg.checkpoints.compvis import (
    UNET_PREFIX,
    VAE_PREFIX,
    Place,
    text_place,
    text_prefix,
    unet_key,
    vae_key,
)
from shiftreg.checkpoints.stored import TensorSource, joined, reshaped, rows, transposed
from shiftreg.errors import InvalidInputError
from shiftreg.families import Family


def component_places(
    component: str, names: Iterable[str], config: Mapping[str, Any], family: Family
) -> dict[str, Place]:
    """Where the tensors of a component lie.

    Returns:
        Name -> place; a constant that such files lack is left out.

    Raises:
        InvalidInputError: A tensor has no place in such files.
        LookupError, TypeError: The configuration lacks what the names follow from.
    """
    if component == family.network:
        return {name: Place(UNET_PREFIX + unet_key(name, config)) for name in names}
    if component == "vae":
        return {name: Place(VAE_PREFIX + vae_key(name, config)) for name in names}
    prefix = text_prefix(family.encoder(component), config)
    places = {name: text_place(name, prefix) for name in names}
    return {name: place for name, place in places.items() if place is not None}


def to_single_file(
    tensors: Mapping[str, TensorSource], places: Mapping[str, Place]
) -> dict[str, TensorSource]:
    """The tensors of a component as single files hold them.

    Raises:
        InvalidInputError: A part of a joined tensor is missing, or its parts differ.
    """
    parts: dict[str, dict[int, TensorSource]] = {}
    for name, place in places.items():
        source: TensorSource = transposed(tensors[name]) if place.transposed else tensors[name]
        # (c_out, c_in) -> (c_out, c_in, 1, 1)
        if place.key.startswith(VAE_PREFIX) and ".mid.attn_" in place.key:
            source = reshaped(source, _kernel(source.shape))
        parts.setdefault(place.key, {})[place.part] = source
    counts = {place.key: place.parts for place in places.values()}
    for key, found in parts.items():
        if len(found) != counts[key]:
            raise InvalidInputError(
                f"'{key}' joins {counts[key]} tensors, and the base has {len(found)} of them. "
                "Copy the whole folder again, or export a folder."
            )
    return {
        key: joined(key, [found[part] for part in range(counts[key])])
        if counts[key] > 1
        else found[0]
        for key, found in parts.items()
    }


def from_single_file(tensors: Mapping[str, TensorSource], place: Place) -> TensorSource | None:
    """The tensor that lies at a place.

    Returns:
        None if there is no such tensor, or its shape cannot be divided so.
    """
    source = tensors.get(place.key)
    if source is None or (place.transposed and len(source.shape) != 2):
        return None
    if place.parts > 1:
        if not source.shape or source.shape[0] % place.parts:
            return None
        size = source.shape[0] // place.parts
        source = rows(source, place.part * size, (place.part + 1) * size)
    return transposed(source) if place.transposed else source


def _kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1) if len(shape) == 2 else shape
