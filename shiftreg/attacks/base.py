"""What an attacker has, and what an attack gives: plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from torch import Tensor

from shiftreg.erasers.model import NoiseModel, PromptModel, Step


@dataclass(frozen=True)
class Surface:
    """What an attacker has in hand.

    Attributes:
        model: The noise predictor under attack, with the target's weights.
        words: Its text encoder.
        base_weights: Layer name -> ``W_l (d_out, d_in)`` before the erasure.
        concept: Name of the concept.
        prompts: Wordings that name it, the bare name first.
        anchors: The same wordings without it.
        latents: ``x_0 (n, C, h, w)`` of pictures of the concept, painted by the base.
        latent_prompts: For each latent, which of ``prompts`` it was painted for.
        observe: Called after each step.
    """

    model: NoiseModel
    words: PromptModel
    base_weights: Mapping[str, Tensor]
    concept: str
    prompts: tuple[str, ...]
    anchors: tuple[str, ...]
    latents: Tensor
    latent_prompts: tuple[int, ...]
    observe: Callable[[Step], None]


@dataclass(frozen=True)
class Start:
    """Pictures that painting begins from, in place of pure noise.

    Attributes:
        latents: ``x_0 (n, C, h, w)``.
        strength: Share of the noise schedule that is painted again: 1 begins from noise.
        keep: ``(h, w)`` bool, the part of the picture that is held to ``latents``; None if none is.
    """

    latents: Tensor
    strength: float
    keep: Tensor | None = None


@dataclass(frozen=True)
class Found:
    """What an attack found: how to make the target paint the concept.

    Attributes:
        prompt_embeds: ``(k, L, d_in)``; pictures are painted from them in turn.
        text: The same in words, for people.
        start: What to begin from, if not from noise.
        deltas: Parameter -> what is added to the target's weights; empty if they stay.
        metrics: Worth showing.
    """

    prompt_embeds: Tensor
    text: str = ""
    start: Start | None = None
    deltas: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Attack(Protocol):
    """One way of making an erased concept appear. Its dataclass fields are its budget.

    Attributes:
        name: What ``--attack`` takes.
        needs: What the attacker must have, in words: "prompts", "weights", ...
        source: Where it comes from.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    source: ClassVar[str]

    def run(self, surface: Surface, seed: int) -> Found:
        """Attacks; the same seed gives the same result."""
        ...
