"""SRS-ME without its constraint: for concepts that must never return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from shiftreg.erasers.model import NoiseModel
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import InPlaceEraser, NoisePool, everywhere


@dataclass(frozen=True)
class SrsMeFree(InPlaceEraser):
    """Concept-irrelevant unlearning of all cross-attention weights, bound to no null space.

    Source: "Forget All That Should Be Forgotten" (SRS-ME), its unconstrained variant for content
    that is never to be restored. With ``r(c) = eps(x_t, c) - eps(x_t, empty)`` it minimises
    ``mean |r_trained(c) * r(c)|``; the absolute value ends the paper's reward below zero. The
    empty prompt moves here, so that its prediction needs a gradient pass of its own.

    Attributes:
        learning_rate: Of Adam (reference code: 1e-5).
        iterations: Steps (paper: 1000 at most).
        batch_size: Noised latents a step.
        retention: Weight of the empty prompt's prediction staying as it was.
    """

    name: ClassVar[str] = "srs-me-free"
    recoverable: ClassVar[bool] = False
    changes: ClassVar[str] = "all of attn2"
    cost: ClassVar[str] = "2 gradient passes a step"
    source: ClassVar[str] = "SRS-ME, Forget All That Should Be Forgotten (variant CiE)"

    retention: float = 1.0

    def references(self, problem: ErasureProblem) -> tuple[Tensor, ...]:
        """The concept and the empty prompt."""
        return problem.prompt_embeds, everywhere(problem, problem.empty_embeds)

    def loss(
        self, problem: ErasureProblem, model: NoiseModel, pool: NoisePool, rows: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The correlation with what the concept was, and the drift of the empty prompt."""
        noisy, steps, prompts = pool.noisy[rows], pool.timesteps[rows], pool.prompts[rows]
        concept = model.predict(noisy, steps, problem.prompt_embeds[prompts])
        empty = everywhere(problem, problem.empty_embeds)[prompts]
        nothing = model.predict(noisy, steps, empty)
        concept_noise, empty_noise = (noise[rows] for noise in pool.noise)
        product = (concept - nothing) * (concept_noise - empty_noise)
        correlation = product.flatten(1).mean(dim=1).abs().mean()
        drift = (nothing - empty_noise).square().mean()
        value = correlation + self.retention * drift
        return value, {"loss": value.item(), "correlation": correlation.item()}
