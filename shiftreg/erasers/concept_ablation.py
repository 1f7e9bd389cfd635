"""Concept ablation: the concept's prediction becomes its anchor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.base import Erasure, require_positive
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.pool import NoisePool
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import train_in_place


@dataclass(frozen=True)
class ConceptAblation:
    """Distils the anchor into the concept: ``eps(c) -> eps0(anchor)``.

    Source: "Ablating Concepts in Text-to-Image Diffusion Models", equation 5 (model-based), with
    the anchor's own prediction held in place. There ``x_t`` comes from images of the anchor;
    here from images of the concept, which every method of this package shares.

    Attributes:
        preservation: Weight of the anchor's prediction staying as it was (SRS-ME's setting: 10).
        learning_rate: Of Adam (their code: 2e-6 an image).
        iterations: Steps (their code: 100 to 800).
        batch_size: Noised latents a step (their code: 8).
        pool_size: Noised latents whose frozen predictions are computed once.
    """

    name: ClassVar[str] = "concept-ablation"
    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "attn2.to_k and to_v"
    cost: ClassVar[str] = "2 gradient passes a step"
    source: ClassVar[str] = "Ablating Concepts in Text-to-Image Diffusion Models (Kumari et al.)"

    preservation: float = 10.0
    learning_rate: float = 1.6e-5
    iterations: int = 400
    batch_size: int = 8
    pool_size: int = 128

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        require_positive(
            preservation=self.preservation,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            batch_size=self.batch_size,
            pool_size=self.pool_size,
        )

    def erase(
        self,
        problem: ErasureProblem,
        weights: Mapping[str, Tensor],
        data: TrainingData | None,
        seed: int = 0,
    ) -> Erasure:
        """Trains the keys and values.

        Args:
            problem: Prompts of the concept and their anchors.
            weights: Layer name -> ``W_l (d_out, d_in)``: what is trained.
            data: The base and latents of the concept.
            seed: Of the noise, the timesteps and the batches.

        Raises:
            InvalidInputError: No training data.
        """
        generator = torch.Generator().manual_seed(seed)
        pool = NoisePool.draw(data, self.pool_size, generator, (problem.anchor_embeds,))
        assert data is not None  # the pool refuses it
        model = data.model

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = pool.sample(self.batch_size, generator)
            noisy, steps, prompts = pool.noisy[rows], pool.timesteps[rows], pool.prompts[rows]
            target = pool.noise[0][rows]
            concept = model.predict(noisy, steps, problem.prompt_embeds[prompts])
            anchor = model.predict(noisy, steps, problem.anchor_embeds[prompts])
            distance = (concept - target).square().mean()
            drift = (anchor - target).square().mean()
            value = distance + self.preservation * drift
            shown = {"loss": value.item(), "distance": distance.item(), "drift": drift.item()}
            return value, shown

        return train_in_place(
            weights,
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
        )
