"""What a PEFT configuration says of a LoRA: its ranks, and the scale of each layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from shiftreg.errors import InvalidInputError

Value = TypeVar("Value")
# Beginnings of initialisations that also change the base's own weights, which the file lacks.
BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
MERGE = "Merge it into a checkpoint with the tool that made it, then import that."


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
            rank: Of its tensors.

        Raises:
            InvalidInputError: The configuration states another rank.
        """
        stated = _by_pattern(self.ranks, module, self.rank)
        if stated is not None and stated != rank:
            raise InvalidInputError(
                f"The tensors of '{module}' have rank {rank}, and {self.source} says {stated}. "
                "Use the configuration that was saved with the weights."
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
            f"A LoRA's configuration gives lora_alpha, and {source} does not. "
            "Use the configuration that was saved with the weights."
        )
    rank = values.get("r")
    return AdapterConfig(
        rank=None if rank is None else _rank(rank, "r", source),
        alpha=_alpha(values["lora_alpha"], "lora_alpha", source),
        ranks={
            pattern: _rank(value, f"rank_pattern['{pattern}']", source)
            for pattern, value in _patterns(values, "rank_pattern", source).items()
        },
        alphas={
            pattern: _alpha(value, f"alpha_pattern['{pattern}']", source)
            for pattern, value in _patterns(values, "alpha_pattern", source).items()
        },
        rank_stabilised=bool(values.get("use_rslora")),
        source=source,
    )


def _check_kind(values: Mapping[str, Any], source: str) -> None:
    """Refuses adapters whose deltas are not scale * up @ down."""
    initialisation = str(values.get("init_lora_weights", "")).lower()
    odd = None
    if str(values.get("peft_type", "LORA")).upper() != "LORA":
        odd = f"peft_type {values['peft_type']!r}"
    elif values.get("use_dora"):
        odd = "use_dora"
    elif values.get("fan_in_fan_out"):
        odd = "fan_in_fan_out"
    elif initialisation.startswith(BASE_CHANGING):
        odd = f"init_lora_weights {values['init_lora_weights']!r}"
    if odd:
        raise InvalidInputError(
            f"A LoRA adds scale * up @ down to a weight, and {source} has {odd}, which does more. "
            + MERGE
        )


def _rank(value: object, key: str, source: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(
            f"A rank is a whole number of at least 1, and {source} gives {key} = {value!r}. "
            "Use the configuration that was saved with the weights."
        )
    return value


def _alpha(value: object, key: str, source: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))):
        raise InvalidInputError(
            f"An alpha is a finite number, and {source} gives {key} = {value!r}. "
            "Use the configuration that was saved with the weights."
        )
    return float(str(value))


def _patterns(values: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    patterns = values.get(key) or {}
    if not isinstance(patterns, dict):
        raise InvalidInputError(
            f"{key} maps names of layers to numbers, and {source} gives {patterns!r}. "
            "Use the configuration that was saved with the weights."
        )
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidInputError(
                f"{key} in {source} holds '{pattern}', which is not a regular expression: {error}. "
                "Use the configuration that was saved with the weights."
            ) from error
    return patterns


def _by_pattern(patterns: Mapping[str, Value], module: str, default: Value) -> Value:
    """PEFT's rule: the first pattern that a name ends in, from a dot on."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
