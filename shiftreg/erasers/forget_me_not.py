"""Forget-Me-Not: the image stops attending to the concept's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftreg.erasers.model import NoiseModel
from shiftreg.erasers.problem import ErasureProblem
from shiftreg.erasers.training import InPlaceEraser, NoisePool


@dataclass(frozen=True)
class ForgetMeNot(InPlaceEraser):
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
    changes: ClassVar[str] = "all of attn2"
    cost: ClassVar[str] = "1 gradient pass a step, few steps"
    source: ClassVar[str] = "Forget-Me-Not (Zhang et al. 2023)"

    learning_rate: float = 1e-4
    iterations: int = 35

    def loss(
        self, problem: ErasureProblem, model: NoiseModel, pool: NoisePool, rows: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The attention that the image pays to the name's tokens."""
        tokens = torch.arange(problem.prompt_embeds.shape[1])
        starts, ends = torch.tensor(problem.name_positions), torch.tensor(problem.name_ends)
        named = (tokens >= starts[:, None]) & (tokens <= ends[:, None])  # (prompts, L)
        prompts = pool.prompts[rows]
        maps = model.attention(
            pool.noisy[rows], pool.timesteps[rows], problem.prompt_embeds[prompts]
        )
        mask = named[prompts][:, None, None]  # (B, 1, 1, L)
        value = torch.stack([(m * mask).square().sum(dim=-1).mean() for m in maps]).mean()
        return value, {"loss": value.item()}
