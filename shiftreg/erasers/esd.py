"""ESD: the concept's prediction turns into its opposite, seen from the empty prompt."""

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
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class Esd:
    """Teaches the model negative guidance: ``eps(c) -> (1 + eta) eps0(empty) - eta eps0(c)``.

    Source: "Erasing Concepts from Diffusion Models" (ESD), equations 5 to 7. There ``x_t`` is
    painted by the student in every step; here it is a noised picture of the frozen base, so that
    the teacher's predictions are computed once.

    Attributes:
        layers: "x" trains the cross-attentions (for styles), "u" everything else (for objects).
        negative_guidance: ``eta`` (paper: 1).
        learning_rate: Of Adam (paper: 1e-5).
        iterations: Steps (paper: 1000).
        batch_size: Noised latents a step (paper: 1).
        pool_size: Noised latents whose frozen predictions are computed once.
    """

    name: ClassVar[str] = "esd"
    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "all of attn2 (x), or all but attn2 (u)"
    cost: ClassVar[str] = "1 gradient pass a step"
    source: ClassVar[str] = "ESD, Erasing Concepts from Diffusion Models (Gandikota et al. 2023)"

    layers: str = "x"
    negative_guidance: float = 1.0
    learning_rate: float = 1e-5
    iterations: int = 1000
    batch_size: int = 1
    pool_size: int = 128

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        require_positive(
            negative_guidance=self.negative_guidance,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            batch_size=self.batch_size,
            pool_size=self.pool_size,
        )
        if self.layers not in ("x", "u"):
            raise InvalidInputError(f"layers is 'x' or 'u', and it is '{self.layers}'.")

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains the chosen parameters.

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
        target = (1 + self.negative_guidance) * empty_noise - self.negative_guidance * concept_noise

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = pool.sample(self.batch_size, generator)
            embeds = problem.prompt_embeds[pool.prompts[rows]]
            predicted = model.predict(pool.noisy[rows], pool.timesteps[rows], embeds)
            value = (predicted - target[rows]).square().mean()
            return value, {"loss": value.item()}

        names = model.cross_attention if self.layers == "x" else model.others
        return train_in_place(
            names,
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
        )
