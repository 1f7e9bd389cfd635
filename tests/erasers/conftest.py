"""A small erasure problem, and a noise model simple enough to reason about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from shiftreg.erasers import ErasureProblem
from shiftreg.subspace import null_space_basis

WIDTH, LENGTH, OUT = 24, 4, 10
LAYERS = ("a.to_k", "a.to_v")


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Two layers ``(OUT, WIDTH)``."""
    generator = torch.Generator().manual_seed(0)
    return {layer: torch.randn(OUT, WIDTH, generator=generator) for layer in LAYERS}


@pytest.fixture
def protected_embeds() -> Tensor:
    """Two protected prompts ``(2, LENGTH, WIDTH)``."""
    return torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def problem(protected_embeds: Tensor) -> ErasureProblem:
    """Three prompts of a concept, whose first row is common with their anchors."""
    generator = torch.Generator().manual_seed(2)
    prompts = torch.randn(3, LENGTH, WIDTH, generator=generator)
    anchors = torch.randn(3, LENGTH, WIDTH, generator=generator)
    anchors[:, 0] = prompts[:, 0]
    preserved = torch.randn(6, WIDTH, generator=generator)
    return ErasureProblem(
        prompt_embeds=prompts,
        anchor_embeds=anchors,
        name_positions=(1, 2, 2),
        name_ends=(1, 2, 3),
        anchor_ends=(1, 2, 2),
        bare_names=(0,),
        empty_embeds=torch.randn(LENGTH, WIDTH, generator=generator),
        retained_rows=torch.randn(5, WIDTH, generator=generator),
        preserved_rows=preserved,
        null_basis=null_space_basis(protected_embeds.flatten(0, 1)),
    )


class AttentionModel(nn.Module):
    """Predicts noise as one cross-attention of the latents over the prompt would."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self._added: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(3)
        self.query = torch.randn(OUT, 16, generator=generator) / 4
        self.out = torch.randn(16, OUT, generator=generator) / 4
        self.gradient_passes = 0
        self.passes = 0

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        self.passes += 1
        self.gradient_passes += torch.is_grad_enabled()
        keys, values = (
            prompt_embeds @ (self.weights[layer] + self._added.get(layer, 0)).T for layer in LAYERS
        )
        queries = latents.flatten(1)[:, None] @ self.query.T  # (B, 1, OUT)
        attention = (queries @ keys.transpose(1, 2) / OUT**0.5).softmax(-1)
        return (attention @ values @ self.out.T).reshape(latents.shape)

    def noised(self, latents: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        share = (timesteps.float() / 1000)[:, None, None, None]
        return (1 - share) * latents + share * noise

    @contextmanager
    def shifted(self, support: Tensor, factors: Mapping[str, Tensor]) -> Iterator[None]:
        self._added = {layer: factor @ support for layer, factor in factors.items()}
        try:
            yield
        finally:
            self._added = {}


@pytest.fixture
def model(weights: dict[str, Tensor]) -> AttentionModel:
    """The noise model over the two layers."""
    return AttentionModel(weights)
