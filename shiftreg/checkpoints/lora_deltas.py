"""What a LoRA adds to the weights of a base: scale * up @ down for each layer.

A PEFT configuration says the ranks, and the scale of each layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from shiftreg.checkpoints.foreign_files import ForeignFile
from shiftreg.checkpoints.lora_keys import sort_lora
from shiftreg.checkpoints.weight_change import (
    ComparedBase,
    WeightChange,
    check_weights,
    dtype_names,
    fit_shape,
    probable_architecture,
    shape_text,
    single_precision,
)
from shiftreg.errors import IncompatibleError, InvalidInputError

Value = TypeVar("Value")
# Beginnings of initialisations that also change the base's own weights, which the file lacks.
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
MERGE = "Merge it into a checkpoint with the tool that made it, then import that."
OWN = "Use the configuration that was saved with the weights."


@dataclass(frozen=True)
class AdapterConfig:
    """A LoRA's ranks and scales.

    Attributes:
        rank: Of all layers without a rank of their own; None if not given.
        ranks: Pattern of a module's name -> its rank.
        alphas: Pattern of a module's name -> its alpha.
        rank_stabilised: The scale is alpha / sqrt(rank), not alpha / rank.
        source: Where it was read from, for errors.
    """

    rank: int | None
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilised: bool
    source: str

    def alpha_of(self, module: str) -> float:
        """The alpha of a layer."""
        return _by_pattern(self.alphas, module, self.alpha)

    def scale(self, module: str, rank: int) -> float:
        """What the product of a layer's two matrices is multiplied with.

        Args:
            module: The layer, by diffusers' name.

        Raises:
            InvalidInputError: The configuration states another rank.
        """
        stated = _by_pattern(self.ranks, module, self.rank)
        if stated is not None and stated != rank:
            raise InvalidInputError(
                f"The tensors of '{module}' have rank {rank}, and {self.source} says {stated}. "
                + OWN
            )
        alpha = self.alpha_of(module)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def parse_adapter_config(content: Mapping[str, Any], source: str) -> AdapterConfig | None:
    """Reads the part of a configuration that is about the UNet, or the transformer in its place.

    Args:
        content: An ``adapter_config.json``, or the metadata that diffusers writes, whose keys
            begin with the component, such as ``unet.lora_alpha``.
        source: Where it was read from, for errors.

    Returns:
        The values; None if it says nothing about the UNet.

    Raises:
        InvalidInputError: A value is malformed, or the adapter is more than a LoRA.
    """
    network = "unet." if any(key.startswith("unet.") for key in content) else "transformer."
    values = {k.removeprefix(network): v for k, v in content.items() if k.startswith(network)}
    values = values or {key: value for key, value in content.items() if "." not in key}
    if not values:
        return None
    _check_kind(values, source)
    if "lora_alpha" not in values:
        raise InvalidInputError(
            f"A LoRA's configuration gives lora_alpha, and {source} does not. {OWN}"
        )
    rank = values.get("r")
    return AdapterConfig(
        rank=None if rank is None else _rank(rank, "r", source),
        alpha=_alpha(values["lora_alpha"], "lora_alpha", source),
        ranks=_patterns(values, "rank_pattern", source, _rank),
        alphas=_patterns(values, "alpha_pattern", source, _alpha),
        rank_stabilised=bool(values.get("use_rslora")),
        source=source,
    )


def _check_kind(values: Mapping[str, Any], source: str) -> None:
    """Refuses adapters whose deltas are not scale * up @ down."""
    initialisation = str(values.get("init_lora_weights", "")).lower()
    odd = [key for key in ("use_dora", "fan_in_fan_out") if values.get(key)]
    if str(values.get("peft_type", "LORA")).upper() != "LORA":
        odd.insert(0, f"peft_type {values['peft_type']!r}")
    if initialisation.startswith(BASE_CHANGING):
        odd.append(f"init_lora_weights {values['init_lora_weights']!r}")
    if odd:
        raise InvalidInputError(
            f"A LoRA adds scale * up @ down to a weight, and {source} has {odd[0]}, which does "
            f"more. {MERGE}"
        )


def _rank(value: object, key: str, source: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(
            f"A rank is a whole number of at least 1, and {source} gives {key} = {value!r}. {OWN}"
        )
    return value


def _alpha(value: object, key: str, source: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))):
        raise InvalidInputError(
            f"An alpha is a finite number, and {source} gives {key} = {value!r}. {OWN}"
        )
    return float(str(value))


def _patterns(
    values: Mapping[str, Any], key: str, source: str, read: Callable[[object, str, str], Value]
) -> dict[str, Value]:
    patterns = values.get(key) or {}
    if not isinstance(patterns, dict):
        raise InvalidInputError(
            f"{key} maps names of layers to numbers, and {source} gives {patterns!r}. {OWN}"
        )
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidInputError(
                f"{key} in {source} holds '{pattern}', which is not a regular expression: {error}. "
                + OWN
            ) from error
    return {p: read(value, f"{key}['{p}']", source) for p, value in patterns.items()}


def _by_pattern(patterns: Mapping[str, Value], module: str, default: Value) -> Value:
    """PEFT's rule: the first pattern that a name ends in, from a dot on."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def lora_change(file: ForeignFile, base: ComparedBase, *, unet_only: bool) -> WeightChange:
    """Multiplies the pairs of a LoRA out.

    Args:
        unet_only: Leaves out what changes a text encoder.

    Raises:
        InvalidInputError: The file is malformed, of an unknown kind, or changes a text encoder.
        IncompatibleError: It was made for another base.
    """
    lora, source, unet = sort_lora(file, base), file.source, base.unet
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
            _check_pair(module, parts, weight, file)
            rank = parts["down"].shape[0]
            alpha, scale = _alpha_and_scale(module, parts, rank, adapter, source)
            # (c_out, r) @ (r, c_in * kernel)
            down, up = (parts[part].double().flatten(1) for part in ("down", "up"))
            changed[f"{module}.weight"] = scale * (up @ down).reshape(weight.shape)
            ranks.add(rank)
            alphas.add(alpha)
        for role, parameter in (("diff", f"{module}.weight"), ("diff_b", f"{module}.bias")):
            if role in parts:
                changed[parameter] = _dense(parameter, parts[role], unet, file)
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
    module: str, parts: Mapping[str, Tensor], weight: Tensor, file: ForeignFile
) -> None:
    """Refuses a pair whose product has another shape than the weight.

    Raises:
        InvalidInputError: The two do not belong together, or hold no finite numbers.
        IncompatibleError: They belong to a layer of another width.
    """
    down, up, source = parts["down"], parts["up"], file.source
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


def _dense(parameter: str, diff: Tensor, unet: Mapping[str, Tensor], file: ForeignFile) -> Tensor:
    """A delta that is not factored, in float64."""
    if parameter not in unet:
        raise IncompatibleError(
            f"The base has no '{parameter}', which {file.source} changes."
            f"{probable_architecture(file.tensors)} Import it for a base of that structure."
        )
    fitted = fit_shape(diff, unet[parameter].shape)
    if fitted is None:
        raise IncompatibleError(
            f"The base's '{parameter}' has shape {shape_text(unet[parameter])}, and {file.source} "
            f"adds {shape_text(diff)} to it.{probable_architecture(file.tensors)} "
            "Import it for a base of that width."
        )
    check_weights(f"diff of {parameter}", fitted)
    return fitted.double()


def _some(names: tuple[str, ...]) -> str:
    """The first of many names."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
