"""Whether the parts beside the UNet are the base's: a shift leaves them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    network_folder,
    read_config,
    single_file_components,
    stored_component,
)
from shiftreg.checkpoints.compvis import VAE_PREFIX, vae_key
from shiftreg.checkpoints.compvis_text import CLIP_PREFIX, XL_CLIP_PREFIX, is_unused, long_name
from shiftreg.checkpoints.files import reading
from shiftreg.checkpoints.single_file import component_places, to_single_file
from shiftreg.checkpoints.stored import TensorSource, whole
from shiftreg.checkpoints.weight_change import fit_shape, same_values
from shiftreg.errors import InvalidInputError

# Folder -> what errors call it.
OTHER_PARTS = {
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "vae": "autoencoder",
}


def first_difference(part: str, tensors: Mapping[str, Tensor], base_folder: Path) -> str | None:
    """The first tensor that is not the base's.

    Args:
        part: Of ``OTHER_PARTS``.
        tensors: By the file's names, with the prefix of the part.
        base_folder: The diffusers folder.

    Returns:
        Its name in the file; None if all that are there are the base's.

    Raises:
        InvalidInputError: The base has no safetensors weights of that part.
        IntegrityError: The base is damaged.
    """
    if not tensors:
        return None
    component = base_folder / part
    if not component.is_dir():
        return next(iter(tensors))
    config = read_config(component)
    stored = stored_component(component)
    if network_folder(base_folder).name != "unet":  # Single files hold no such pipeline.
        own = {f"{part}.{name}": source for name, source in stored.items()}
        return next((name for name in tensors if not _same(tensors[name], own.get(name))), None)
    # A configuration may be valid JSON and still lack what the names follow from.
    with reading(component / "config.json"):
        places = component_places(part, stored, config, single_file_components(base_folder))
    expected: dict[str, TensorSource] = dict(to_single_file(stored, places))
    if part != "vae":
        expected |= {f"{part}.{long_name(name)}": source for name, source in stored.items()}
    for name, tensor in tensors.items():
        if part != "vae" and is_unused(name, config):
            continue
        try:
            old = expected.get(_one_name(part, name, config))
        except InvalidInputError:  # The base's kind of autoencoder has no such tensor.
            return name
        if not _same(tensor, old):
            return name
    return None


def _same(tensor: Tensor, source: TensorSource | None) -> bool:
    """Whether the base holds a tensor with these values, in whatever dtype and layout."""
    fitted = None if source is None else fit_shape(tensor, source.shape)
    return source is not None and fitted is not None and same_values(fitted, whole(source))


def _one_name(part: str, name: str, config: Mapping[str, Any]) -> str:
    """The name that a tensor has in every kind of file."""
    if part == "vae" and name.startswith("vae."):
        return VAE_PREFIX + vae_key(name.removeprefix("vae."), config)
    for prefix in (f"{part}.", CLIP_PREFIX, XL_CLIP_PREFIX):
        if name.startswith(prefix) and part != "vae":
            return prefix + long_name(name.removeprefix(prefix))
    return name
