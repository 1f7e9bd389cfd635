"""The state of a base with merged layers put in, and nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import check_base, read_component, read_config
from shiftreg.checkpoints.compvis import text_encoder_to_compvis, unet_to_compvis, vae_to_compvis
from shiftreg.checkpoints.files import reading
from shiftreg.errors import IncompatibleError, InvalidInputError


def put_layers(
    tensors: Mapping[str, Tensor], layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Replaces the weights of layers.

    Args:
        tensors: A UNet's state dict.
        layers: Parameter -> its full value, as ``ConceptShift`` names them: a weight by its
            module. Others are left alone.
        dtype: Of all floating tensors of the result; by default each keeps its own.

    Raises:
        IncompatibleError: A weight has another shape than the UNet's.
        InvalidInputError: A value is not finite, or not in the range of the dtype.
    """
    result = {}
    for name, tensor in tensors.items():
        merged = layers.get(name.removesuffix(".weight"))
        if merged is None:
            result[name] = cast(name, tensor, dtype)
            continue
        if merged.shape != tensor.shape:
            raise IncompatibleError(
                f"The merged weight of {name.removesuffix('.weight')} has shape "
                f"{tuple(merged.shape)}, and the base has {tuple(tensor.shape)} there. "
                "Merge shifts that were made for this base."
            )
        if not torch.isfinite(merged).all():
            raise InvalidInputError(f"{name}: the merged weight holds NaN or infinity.")
        result[name] = cast(name, merged.detach().cpu(), dtype or tensor.dtype)
    return result


def check_layers(tensors: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> None:
    """Refuses layers that a UNet does not have.

    Raises:
        IncompatibleError: Names the first one.
    """
    known = {name.removesuffix(".weight") for name in tensors}
    if unknown := sorted(layers.keys() - known):
        raise IncompatibleError(
            f"The base has no layer '{unknown[0]}'. Merge shifts that were made for this base."
        )


def cast(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Casts a floating tensor; others, and all if there is no dtype, stay the same.

    Raises:
        InvalidInputError: A finite value leaves the range of the dtype.
    """
    if dtype is None or dtype == tensor.dtype or not tensor.is_floating_point():
        return tensor
    result = tensor.to(dtype)
    if not torch.isfinite(result).all() and torch.isfinite(tensor).all():
        raise InvalidInputError(
            f"{name}: values up to {float(tensor.abs().max()):g} do not fit into {dtype}. "
            "Export with float32 or bfloat16."
        )
    return result


def single_file_state(
    base_folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Base and merged layers under CompVis names, sorted.

    Args:
        base_folder: A diffusers folder with ``unet``, ``vae`` and one ``text_encoder``.
        layers: Module name without ``.weight`` -> its full weight.
        dtype: Of all floating tensors; by default each keeps its own.

    Raises:
        NotFoundError: The folder or a part of it does not exist.
        InvalidInputError: It is another kind of pipeline, or has no safetensors weights.
        IncompatibleError: The layers belong to another base.
        IntegrityError: A file is damaged.
    """
    check_base(base_folder)
    if (base_folder / "text_encoder_2").is_dir():
        raise InvalidInputError(
            f"'{base_folder}' has two text encoders, and single files are written for pipelines "
            "with one (Stable Diffusion 1.x). Export a folder instead."
        )
    unet = read_component(base_folder / "unet")
    check_layers(unet, layers)
    vae, encoder = (read_component(base_folder / part) for part in ("vae", "text_encoder"))
    state = text_encoder_to_compvis(put_layers(encoder, {}, dtype))
    unet, vae = put_layers(unet, layers, dtype), put_layers(vae, {}, dtype)
    # A configuration may be valid JSON and still lack what the names follow from.
    with reading(base_folder / "unet" / "config.json"):
        state |= unet_to_compvis(unet, read_config(base_folder / "unet"))
    with reading(base_folder / "vae" / "config.json"):
        state |= vae_to_compvis(vae, read_config(base_folder / "vae"))
    return dict(sorted(state.items()))
