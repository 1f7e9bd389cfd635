"""SRS-ME without its constraint: for concepts that must never return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure, require_positive
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.pool import NoisePool, everywhere
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import train_in_place


@dataclass(frozen=True)
class SrsMeFree:
    """Concept-irrelevant unlearning of all cross-attention weights, bound to no null space.

    Source: "Forget All That Should Be Forgotten" (SRS-ME), its unconstrained variant for content
    that is never to be restored. With ``r(c) = eps(x_t, c) - eps(x_t, empty)`` it minimises
    ``mean |r_trained(c) * r(c)|``; the absolute value ends the paper's reward below zero. The
    empty prompt moves here, so that its prediction needs a gradient pass of its own.

    Attributes:
        learning_rate: Of Adam (reference code: 1e-5).
        iterations: Steps (paper: 1000 at most).
        batch_size: Noised latents a step.
        pool_size: Noised latents whose frozen predictions are computed once.
        retention: Weight of the empty prompt's prediction staying as it was.
    """

    name: ClassVar[str] = "srs-me-free"
    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = False
    changes: ClassVar[str] = "all of attn2"
    cost: ClassVar[str] = "2 gradient passes a step"
    source: ClassVar[str] = "SRS-ME, Forget All That Should Be Forgotten (variant CiE)"

    learning_rate: float = 1e-5
    iterations: int = 1000
    batch_size: int = 4
    pool_size: int = 128
    retention: float = 1.0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        require_positive(
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            batch_size=self.batch_size,
            pool_size=self.pool_size,
            retention=self.retention,
        )

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains the cross-attentions.

        Args:
            problem: Prompts of the concept, and the empty one.
            weights: Not used: the base is in ``data``.
            data: The base and latents of the concept.
            seed: Of the noise, the timesteps and the batches.

        Raises:
            InvalidInputError: No training data.
        """
        generator = torch.Generator().manual_seed(seed)
        empty = everywhere(problem, problem.empty_embeds)
        pool = NoisePool.draw(data, self.pool_size, generator, (problem.prompt_embeds, empty))
        assert data is not None  # the pool refuses it
        model = data.model
        concept_noise, empty_noise = pool.noise

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = pool.sample(self.batch_size, generator)
            noisy, steps, prompts = pool.noisy[rows], pool.timesteps[rows], pool.prompts[rows]
            concept = model.predict(noisy, steps, problem.prompt_embeds[prompts])
            nothing = model.predict(noisy, steps, empty[prompts])
            before = concept_noise[rows] - empty_noise[rows]
            after = concept - nothing
            correlation = (after * before).flatten(1).mean(dim=1).abs().mean()
            drift = (nothing - empty_noise[rows]).square().mean()
            value = correlation + self.retention * drift
            return value, {"loss": value.item(), "correlation": correlation.item()}

        return train_in_place(
            model.cross_attention,
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
        )
