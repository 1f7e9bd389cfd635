"""Forget-Me-Not: the image stops attending to the concept's words."""

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
class ForgetMeNot:
    """Attention resteering: pushes the attention maps of the concept's tokens towards zero.

    Source: "Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models", attention
    resteering loss. The textual inversion that may come before it there is left out: the concept
    is known by its name.

    Attributes:
        learning_rate: Of Adam (their code: 2e-6 for the whole UNet).
        iterations: Steps (their code: 35; SRS-ME compares 20).
        batch_size: Noised latents a step.
        pool_size: Noised latents to draw from.
    """

    name: ClassVar[str] = "forget-me-not"
    trains: ClassVar[bool] = True
    separable: ClassVar[bool] = False
    recoverable: ClassVar[bool] = True
    changes: ClassVar[str] = "all of attn2"
    cost: ClassVar[str] = "1 gradient pass a step, few steps"
    source: ClassVar[str] = "Forget-Me-Not (Zhang et al. 2023)"

    learning_rate: float = 1e-4
    iterations: int = 35
    batch_size: int = 4
    pool_size: int = 128

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        require_positive(
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
        """Trains the cross-attentions.

        Args:
            problem: Prompts of the concept, and where its name stands in them.
            weights: Not used: the base is in ``data``.
            data: The base and latents of the concept.
            seed: Of the noise, the timesteps and the batches.

        Raises:
            InvalidInputError: No training data.
        """
        generator = torch.Generator().manual_seed(seed)
        pool = NoisePool.draw(data, self.pool_size, generator)
        assert data is not None  # the pool refuses it
        model = data.model
        tokens = torch.arange(problem.prompt_embeds.shape[1])
        starts, ends = torch.tensor(problem.name_positions), torch.tensor(problem.name_ends)
        named = (tokens >= starts[:, None]) & (tokens <= ends[:, None])  # (prompts, L)

        def loss() -> tuple[Tensor, dict[str, float]]:
            rows = pool.sample(self.batch_size, generator)
            prompts = pool.prompts[rows]
            maps = model.attention(
                pool.noisy[rows], pool.timesteps[rows], problem.prompt_embeds[prompts]
            )
            mask = named[prompts][:, None, None]  # (B, 1, 1, L)
            value = torch.stack([(m * mask).square().sum(dim=-1).mean() for m in maps]).mean()
            return value, {"loss": value.item()}

        return train_in_place(
            model.cross_attention,
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=data,
        )
