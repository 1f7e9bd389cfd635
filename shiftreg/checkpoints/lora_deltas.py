"""What a LoRA adds to the weights of a base: scale * up @ down for each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from shiftreg.checkpoints.adapter_config import AdapterConfig, parse_adapter_config
from shiftreg.checkpoints.foreign_files import ForeignFile
from shiftreg.checkpoints.lora_keys import sort_lora
from shiftreg.checkpoints.weight_change import (
    WeightChange,
    check_weights,
    dtype_names,
    fit_shape,
    probable_architecture,
    shape_text,
    single_precision,
)
from shiftreg.errors import IncompatibleError, InvalidInputError


def lora_change(
    file: ForeignFile,
    unet: Mapping[str, Tensor],
    compvis: Mapping[str, str],
    source: str,
    *,
    unet_only: bool,
) -> WeightChange:
    """Multiplies the pairs of a LoRA out.

    Args:
        file: A LoRA of any known style.
        unet: The base's state dict.
        compvis: diffusers' name of each parameter -> CompVis's, where there is one.
        source: The file, for errors.
        unet_only: Leaves out what changes a text encoder.

    Raises:
        InvalidInputError: The file is malformed, of an unknown kind, or changes a text encoder.
        IncompatibleError: It was made for another base.
    """
    lora = sort_lora(file.tensors, unet, compvis, source)
    if lora.text_encoder and not unet_only:
        raise InvalidInputError(
            f"A shift changes the UNet alone, and {source} also changes a text encoder: "
            f"{_some(lora.text_encoder)}. Import its UNet part alone (--unet-only), and expect a "
            "weaker effect than the whole has."
        )
    if not lora.layers:
        raise InvalidInputError(
            f"{source} changes only a text encoder ({_some(lora.text_encoder)}), and a shift "
            "changes the UNet. Use a file that was trained on the UNet."
        )
    adapter = None
    if file.adapter is not None and lora.form != "lora, kohya":
        adapter = parse_adapter_config(file.adapter, file.adapter_source)
    deltas: dict[str, Tensor] = {}
    ranks: set[int] = set()
    alphas: set[float] = set()
    for module, parts in lora.layers.items():
        changed: dict[str, Tensor] = {}
        if "down" in parts:
            weight = unet[f"{module}.weight"]
            _check_pair(module, parts, weight, file, source)
            rank = parts["down"].shape[0]
            alpha, scale = _alpha_and_scale(module, parts, rank, adapter, source)
            changed[f"{module}.weight"] = _multiply(parts, scale).reshape(weight.shape)
            ranks.add(rank)
            alphas.add(alpha)
        for role, parameter in (("diff", f"{module}.weight"), ("diff_b", f"{module}.bias")):
            if role in parts:
                changed[parameter] = _dense(parameter, parts[role], unet, file, source)
        for parameter, delta in changed.items():
            if (rounded := single_precision(parameter, delta)) is not None:
                deltas[parameter] = rounded
    left_out: tuple[str, ...] = ()
    if lora.text_encoder:
        names = _some(lora.text_encoder)
        left_out = (f"What changes a text encoder was left out: {names}.",)
    details = {
        "style": lora.style,
        "keys": len(file.tensors),
        "layers": len(lora.layers),
        "dtype": dtype_names(file.tensors),
        "ranks": sorted(ranks),
        "alphas": sorted(alphas),
        "rank_stabilised": adapter is not None and adapter.rank_stabilised,
    }
    return WeightChange(lora.form, deltas, left_out, details, tuple(lora.text_encoder))


def _check_pair(
    module: str, parts: Mapping[str, Tensor], weight: Tensor, file: ForeignFile, source: str
) -> None:
    """Refuses a pair whose product has another shape than the weight.

    Raises:
        InvalidInputError: The two do not belong together, or hold no finite numbers.
        IncompatibleError: They belong to a layer of another width.
    """
    down, up = parts["down"], parts["up"]
    shapes = f"down {shape_text(down)} and up {shape_text(up)}"
    for tensor in (down, up):
        if tensor.ndim not in (2, 4):
            raise InvalidInputError(
                f"The factors of a LoRA have two or four dimensions, and '{module}' in {source} "
                f"has {shapes}. Fetch or make the file again."
            )
    rank = down.shape[0]
    if rank == 0 or up.shape[1] == 0:
        raise InvalidInputError(
            f"A LoRA has a rank of at least 1, and '{module}' in {source} has {shapes}: rank 0. "
            "Fetch or make the file again."
        )
    if up.shape[1] != rank or tuple(up.shape[2:]) not in ((), (1, 1)):
        raise InvalidInputError(
            f"The up of a LoRA has as many columns as its down has rows, and '{module}' in "
            f"{source} has {shapes}. Fetch or make the file again."
        )
    expected = (rank, *weight.shape[1:])
    if up.shape[0] != weight.shape[0] or fit_shape(down, expected) is None:
        raise IncompatibleError(
            f"The base's '{module}' has shape {shape_text(weight)}, and {source} has {shapes} for "
            f"it.{probable_architecture(file.tensors)} Import it for a base of that width."
        )
    check_weights(f"{module} (down)", down)
    check_weights(f"{module} (up)", up)


def _multiply(parts: Mapping[str, Tensor], scale: float) -> Tensor:
    """The product of a pair, in float64."""
    down, up = (parts[role].double().flatten(1) for role in ("down", "up"))
    # (c_out, r) @ (r, c_in * kernel)
    return scale * (up @ down)


def _alpha_and_scale(
    module: str, parts: Mapping[str, Tensor], rank: int, adapter: AdapterConfig | None, source: str
) -> tuple[float, float]:
    """A layer's alpha, and what its product is multiplied with; 1 if nothing is said."""
    if "alpha" not in parts:
        if adapter is None:
            return float(rank), 1.0
        return adapter.alpha_of(module), adapter.scale(module, rank)
    tensor = parts["alpha"]
    alpha = float(tensor.double().item()) if tensor.numel() == 1 else math.nan
    if not math.isfinite(alpha):
        raise InvalidInputError(
            f"An alpha is one finite number, and that of '{module}' in {source} is "
            f"{tensor.flatten()[:4].tolist()}. Fetch or make the file again."
        )
    scale = alpha / rank
    if adapter is not None and not math.isclose(scale, adapter.scale(module, rank), rel_tol=1e-3):
        raise InvalidInputError(
            f"A LoRA has one scale for a layer, and for '{module}' {source} holds {scale:g}, while "
            f"{adapter.source} gives {adapter.scale(module, rank):g}. Remove the wrong one."
        )
    return alpha, scale


def _dense(
    parameter: str, diff: Tensor, unet: Mapping[str, Tensor], file: ForeignFile, source: str
) -> Tensor:
    """A delta that is not factored, in float64."""
    if parameter not in unet:
        raise IncompatibleError(
            f"The base has no '{parameter}', which {source} changes."
            f"{probable_architecture(file.tensors)} Import it for a base of that structure."
        )
    fitted = fit_shape(diff, unet[parameter].shape)
    if fitted is None:
        raise IncompatibleError(
            f"The base's '{parameter}' has shape {shape_text(unet[parameter])}, and {source} adds "
            f"{shape_text(diff)} to it.{probable_architecture(file.tensors)} "
            "Import it for a base of that width."
        )
    check_weights(f"diff of {parameter}", fitted)
    return fitted.double()


def _some(names: tuple[str, ...]) -> str:
    """The first of many names."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
