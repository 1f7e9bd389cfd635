"""Concept ablation: the concept's prediction becomes its anchor's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from shiftreg.erasers.model import NoiseModel
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import InPlaceEraser, NoisePool


@dataclass(frozen=True)
class ConceptAblation(InPlaceEraser):
    """Distils the anchor into the concept: ``eps(c) -> eps0(anchor)``.

    Source: "Ablating Concepts in Text-to-Image Diffusion Models", equation 5 (model-based), with
    the anchor's own prediction held in place. There ``x_t`` comes from images of the anchor;
    here from images of the concept, which every method of this package shares.

    Attributes:
        preservation: Weight of the anchor's prediction staying as it was (SRS-ME's setting: 10).
        learning_rate: Of Adam (their code: 2e-6 an image).
        iterations: Steps (their code: 100 to 800).
        batch_size: Noised latents a step (their code: 8).
    """

    name: ClassVar[str] = "concept-ablation"
    changes: ClassVar[str] = "attn2.to_k and to_v"
    cost: ClassVar[str] = "2 gradient passes a step"
    source: ClassVar[str] = "Ablating Concepts in Text-to-Image Diffusion Models (Kumari et al.)"

    preservation: float = 10.0
    learning_rate: float = 1.6e-5
    iterations: int = 400
    batch_size: int = 8

    def references(self, problem: ErasureProblem) -> tuple[Tensor, ...]:
        """The anchors."""
        return (problem.anchor_embeds,)

    def trained(self, model: NoiseModel, weights: Mapping[str, Tensor]) -> Iterable[str]:
        """The keys and values."""
        return weights

    def loss(
        self, problem: ErasureProblem, model: NoiseModel, pool: NoisePool, rows: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """How far concept and anchor are from the anchor's frozen prediction."""
        noisy, steps, prompts = pool.noisy[rows], pool.timesteps[rows], pool.prompts[rows]
        target = pool.noise[0][rows]
        concept = model.predict(noisy, steps, problem.prompt_embeds[prompts])
        anchor = model.predict(noisy, steps, problem.anchor_embeds[prompts])
        distance = (concept - target).square().mean()
        drift = (anchor - target).square().mean()
        value = distance + self.preservation * drift
        shown = {"loss": value.item(), "distance": distance.item(), "drift": drift.item()}
        return value, shown
