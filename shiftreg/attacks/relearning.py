"""Relearning: how little training brings the concept back?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.attacks.base import AttackResult, Surface
from shiftreg.erasers.base import Checked
from shiftreg.erasers.model import TrainingData
from shiftreg.erasers.training import TIMESTEPS, train_in_place
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class Relearning(Checked):
    """Trains the key and value projections on few images of the concept, under its name.

    The loss is the plain one of diffusion models, ``|eps(x_t, c) - noise|^2``. It starts from the
    weights under attack, and its deltas come on top of them.

    Source: the few-shot probe in "Erased or Dormant? Rethinking Concept Erasure Through
    Reversibility" (Liu and Zhang 2025); here without its adapter, on the layers that shifts change.

    Attributes:
        images: Images of the concept that it learns on.
        iterations: Steps.
        learning_rate: Of Adam.
        batch_size: Noised images a step.
    """

    name: ClassVar[str] = "relearning"
    needs: ClassVar[str] = "weights; a few images of the concept"
    source: ClassVar[str] = "Erased or Dormant? (Liu and Zhang 2025)"

    images: int = 8
    iterations: int = 20
    learning_rate: float = 5e-4
    batch_size: int = 8

    def run(self, surface: Surface, seed: int) -> AttackResult:
        """Trains, and puts the weights under attack back."""
        latents = surface.latents[: self.images]
        if len(latents) == 0:
            raise InvalidInputError(
                "Relearning trains on images of the concept, and got none. Generate some first."
            )
        model, generator = surface.model, torch.Generator().manual_seed(seed)
        prompt = surface.words.encode([surface.concept])  # (1, L, d_in)

        def loss() -> tuple[Tensor, dict[str, float]]:
            picks = torch.randint(len(latents), (self.batch_size,), generator=generator)
            timesteps = torch.randint(TIMESTEPS, (self.batch_size,), generator=generator)
            noise = torch.randn(latents[picks].shape, generator=generator)
            noisy = model.noised(latents[picks], timesteps, noise)
            predicted = model.predict(noisy, timesteps, prompt.expand(self.batch_size, -1, -1))
            value = (predicted - noise).square().mean()
            return value, {"loss": value.item()}

        trained = train_in_place(
            model.weights,
            loss,
            learning_rate=self.learning_rate,
            iterations=self.iterations,
            generator=generator,
            data=TrainingData(model, latents, (0,) * len(latents), surface.observe),
        )
        times = f"{self.iterations} steps on {len(latents)} images"
        return AttackResult(
            prompt, text=f'"{surface.concept}", after {times}', deltas=trained.dense
        )
