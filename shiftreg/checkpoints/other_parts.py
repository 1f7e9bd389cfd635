"""Whether the parts beside the UNet are the base's: a shift leaves them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from shiftreg.checkpoints.base_folder import read_component, read_config
from shiftreg.checkpoints.compvis import TEXT_PREFIX, text_encoder_to_compvis, vae_to_compvis
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
    config = read_config(component) if part == "vae" else {}
    expected: dict[str, Tensor] = {}
    for name, tensor in read_component(component).items():
        expected |= _one_name(part, f"{part}.{name}", tensor, config)
    for name, tensor in tensors.items():
        try:
            renamed = _one_name(part, name, tensor, config)
        except InvalidInputError:  # The base's kind of autoencoder has no such tensor.
            return name
        for key, value in renamed.items():
            old = expected.get(key)
            fitted = None if old is None else fit_shape(value, old.shape)
            if old is None or fitted is None or not same_values(fitted, old):
                return name
    return None


def _one_name(part: str, name: str, tensor: Tensor, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Gives a tensor the name that it has in every kind of file."""
    if part == "vae" and name.startswith("vae."):
        return vae_to_compvis({name.removeprefix("vae."): tensor}, config)
    for prefix in ("text_encoder.", TEXT_PREFIX):
        if name.startswith(prefix):
            return text_encoder_to_compvis({name.removeprefix(prefix): tensor})
    return {name: tensor}
