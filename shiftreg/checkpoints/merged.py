"""A base with merged layers put in, and nothing else changed; in its files until it is written.

As a folder, or in the layout of single files: in both directions, where each tensor lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    layer_name,
    read_config,
    single_file_family,
    stored_component,
)
from shiftreg.checkpoints.compvis import (
    UNET_PREFIX,
    VAE_PREFIX,
    Place,
    text_place,
    text_prefix,
    unet_key,
    vae_key,
)
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.stored import (
    DerivedTensor,
    LoadedTensor,
    StoredTensor,
    TensorSource,
    joined,
    reshaped,
    rows,
    transposed,
)
from shiftreg.errors import IncompatibleError, InvalidInputError
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
        is_attention = place.key.startswith(VAE_PREFIX) and ".mid.attn_" in place.key
        if is_attention and len(source.shape) == 2:
            source = reshaped(source, (*source.shape, 1, 1))
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


@dataclass(frozen=True)
class MergedTensor:
    """A tensor in place of the base's; its value is looked up when it is written."""

    name: str
    layers: Mapping[str, Tensor]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``.

        Raises:
            IncompatibleError: The value has another shape than the base's.
            InvalidInputError: It is not finite, or not in the range of the dtype.
        """
        layer = layer_name(self.name)
        merged = self.layers[layer]
        if tuple(merged.shape) != self.shape:
            raise IncompatibleError(
                f"The merged weight of {layer} has shape {tuple(merged.shape)}, and the base "
                f"has {self.shape} there. Merge shifts that were made for this base."
            )
        for piece in LoadedTensor(merged.detach().cpu()).pieces():
            if not _finite(piece):
                raise InvalidInputError(f"{self.name}: the merged weight holds NaN or infinity.")
            yield cast(self.name, piece, self.dtype)


def put_layers(
    tensors: Mapping[str, StoredTensor],
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> dict[str, TensorSource]:
    """Replaces the weights of layers.

    Args:
        layers: Parameter -> its full value, as ``ConceptShift`` names them: a weight by its
            module. Others are left alone.
        dtype: Of all floating tensors of the result; by default each keeps its own.
    """
    result: dict[str, TensorSource] = {}
    for name, stored in tensors.items():
        wanted = dtype if dtype and stored.dtype.is_floating_point else stored.dtype
        if layer_name(name) in layers:
            result[name] = MergedTensor(name, layers, dtype or stored.dtype, stored.shape)
        elif wanted != stored.dtype:
            result[name] = _in_dtype(name, stored, wanted)
        else:
            result[name] = stored
    return result


def _in_dtype(name: str, source: StoredTensor, dtype: torch.dtype) -> TensorSource:
    def read() -> Iterator[Tensor]:
        return (cast(name, piece, dtype) for piece in source.pieces())

    return DerivedTensor(dtype, source.shape, read)


def check_layers(tensors: Mapping[str, StoredTensor], layers: Mapping[str, Tensor]) -> None:
    """Refuses layers that a UNet does not have.

    Raises:
        IncompatibleError: Names the first one.
    """
    if unknown := sorted(layers.keys() - {layer_name(name) for name in tensors}):
        raise IncompatibleError(
            f"The base has no layer '{unknown[0]}'. Merge shifts that were made for this base."
        )


def cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds values once; there is at least one.

    Raises:
        InvalidInputError: A finite value leaves the range of the dtype.
    """
    result = tensor.to(dtype)
    if not _finite(result) and _finite(tensor.double()):
        raise InvalidInputError(
            f"{name}: values up to {float(tensor.abs().max()):g} do not fit into {dtype}. "
            "Export with float32 or bfloat16."
        )
    return result


def _finite(values: Tensor) -> bool:
    # Not a number comes through; to ask each value takes twenty times as long.
    return all(math.isfinite(value) for value in torch.aminmax(values))


def single_file_tensors(
    base_folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, TensorSource]:
    """Base and merged layers under CompVis names, sorted.

    Args:
        base_folder: A diffusers folder with ``unet``, ``vae``, and one or two text encoders.
        dtype: Of all floating tensors; by default each keeps its own.

    Raises as ``write_checkpoint``.
    """
    family = single_file_family(base_folder)
    state: dict[str, TensorSource] = {}
    for component in family.single_file_classes:
        folder = base_folder / component
        stored = stored_component(folder)
        own = layers if component == family.network else {}
        check_layers(stored, own)
        put = put_layers(stored, own, dtype)
        # A configuration may be valid JSON and still lack what the names follow from.
        with reading(folder / "config.json"):
            places = component_places(component, stored, read_config(folder), family)
        state |= to_single_file(put, places)
    return dict(sorted(state.items()))
