"""Noised images of the concept: how well does a prompt explain them to the model under attack?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.attacks.base import Surface
from shiftreg.erasers.model import NoiseModel
from shiftreg.erasers.training import TIMESTEPS
from shiftreg.errors import InvalidInputError

_BATCH = 16


@dataclass(frozen=True)
class NoisedImages:
    """Noised latents, from the least noise to the most, with the noise that was put in.

    Attributes:
        model: The model under attack.
        images: ``(n,)``, which of the surface's latents each is.
        noisy: ``x_t (n, C, h, w)``.
        timesteps: ``t (n,)``.
        noise: ``(n, C, h, w)``.
        levels: ``(n,)``, the squared error of the model for the empty prompt.
    """

    model: NoiseModel
    images: Tensor
    noisy: Tensor
    timesteps: Tensor
    noise: Tensor
    levels: Tensor

    @classmethod
    @torch.no_grad()
    def draw(
        cls, surface: Surface, size: int, generator: torch.Generator, prompt: int | None = None
    ) -> NoisedImages:
        """Noises images at timesteps spread over the whole schedule.

        Args:
            size: Noised latents to draw.
            generator: Of images, timesteps and noise.
            prompt: Take only images that were generated for this prompt, if there are any.

        Raises:
            InvalidInputError: No images of the concept.
        """
        own = [i for i, at in enumerate(surface.latent_prompts) if prompt in (at, None)]
        choice = torch.tensor(own or range(len(surface.latents)))
        if len(choice) == 0:
            raise InvalidInputError(
                "This attack learns from images of the concept, and got none. Generate some first."
            )
        model = surface.model
        images = choice[torch.randint(len(choice), (size,), generator=generator)]
        latents = surface.latents[images]
        timesteps = _spread(size, TIMESTEPS, generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = model.noised(latents, timesteps, noise)
        empty = surface.words.encode([""])
        parts = (part.split(_BATCH) for part in (noisy, timesteps, noise))
        levels = [
            _error(model.predict(x, t, empty.expand(len(x), -1, -1)), eps)
            for x, t, eps in zip(*parts, strict=True)
        ]
        return cls(model, images, noisy, timesteps, noise, torch.cat(levels))

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Picks rows at random from all levels of noise alike, ``(size,)``."""
        return _spread(size, len(self.noisy), generator)

    def loss(self, prompt_embeds: Tensor, rows: Tensor) -> Tensor:
        """The noise loss of prompts: 1 is that of the empty one, and less is better.

        In its own units the loss at little noise would hide that at much noise, where it is
        decided what an image becomes.

        Args:
            prompt_embeds: ``(L, d_in)``, or one for each row ``(rows, L, d_in)``.
            rows: Which noised images.
        """
        embeds = prompt_embeds.expand(len(rows), -1, -1)
        predicted = self.model.predict(self.noisy[rows], self.timesteps[rows], embeds)
        return (_error(predicted, self.noise[rows]) / self.levels[rows]).mean()


def _error(predicted: Tensor, noise: Tensor) -> Tensor:
    return (predicted - noise).square().flatten(1).mean(dim=1)


def _spread(count: int, limit: int, generator: torch.Generator) -> Tensor:
    """Whole numbers below ``limit``, one at random from each of ``count`` equal parts."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) * (limit / count)
    return places.long().clamp(max=limit - 1)
