"""Noised images of a concept, with what the frozen base predicts for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.errors import InvalidInputError

TIMESTEPS = 1000
_BATCH = 16


@dataclass(frozen=True)
class NoisePool:
    """Noised latents with the frozen base's predictions, computed once.

    The base never changes, so its predictions for a fixed pool need no second forward pass in
    every step.

    Attributes:
        noisy: ``x_t (n, C, h, w)``.
        timesteps: ``t (n,)``.
        prompts: ``(n,)``, which prompt of the problem each image shows.
        noise: One ``(n, C, h, w)`` for each set of references.
    """

    noisy: Tensor
    timesteps: Tensor
    prompts: Tensor
    noise: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        data: TrainingData | None,
        size: int,
        generator: torch.Generator,
        references: Sequence[Tensor] = (),
    ) -> NoisePool:
        """Noises images at random timesteps.

        Args:
            data: The base and latents of the concept.
            size: Noised latents to draw.
            generator: Of images, timesteps and noise.
            references: Each ``(prompts, L, d_in)``: what to predict the noise for, by prompt.

        Raises:
            InvalidInputError: No training data.
        """
        if data is None or len(data.latents) == 0:
            raise InvalidInputError(
                "This method trains on latents of the concept, and got none. Generate some first."
            )
        picks = torch.randint(len(data.latents), (size,), generator=generator)
        latents = data.latents[picks]
        timesteps = torch.randint(TIMESTEPS, (size,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = data.model.noised(latents, timesteps, noise)
        prompts = torch.tensor(data.pair_index)[picks]
        model = data.model

        def predict(embeds: Tensor) -> Tensor:
            parts = (part.split(_BATCH) for part in (noisy, timesteps, embeds[prompts]))
            return torch.cat([model.predict(*chunk) for chunk in zip(*parts, strict=True)])

        return cls(noisy, timesteps, prompts, tuple(predict(embeds) for embeds in references))

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Picks ``size`` different rows at random, ``(size,)``."""
        return torch.randperm(len(self.noisy), generator=generator)[:size]


def everywhere(problem: ErasureProblem, embeds: Tensor) -> Tensor:
    """One prompt's ``(L, d_in)`` as a reference for every prompt, ``(prompts, L, d_in)``."""
    return embeds.expand(len(problem.prompt_embeds), -1, -1)
