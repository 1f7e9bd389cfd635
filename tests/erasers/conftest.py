"""A small erasure problem, and a noise model simple enough to reason about."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftreg.erasers import Erasure, ErasureProblem, Step, TrainingData
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


@dataclass(frozen=True)
class Trained:
    """Copies of some of a model's parameters, and the base's values."""

    parameters: Mapping[str, Tensor]
    base: Mapping[str, Tensor]

    def deltas(self) -> dict[str, Tensor]:
        moved = {n: p.detach() - self.base[n] for n, p in self.parameters.items()}
        return {name: delta for name, delta in moved.items() if delta.any()}


class AttentionModel:
    """Predicts noise as one cross-attention of the latents over the prompt would, beside a skip."""

    cross_attention = ("a.to_k", "a.to_out", "a.to_q", "a.to_v")
    others = ("skip", "skip.bias")

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        generator = torch.Generator().manual_seed(3)
        self.values = dict(weights) | {
            "a.to_q": torch.randn(OUT, 16, generator=generator) / 4,
            "a.to_out": torch.randn(16, OUT, generator=generator) / 4,
            "skip": torch.randn(16, 16, generator=generator) / 4,
            "skip.bias": torch.randn(16, generator=generator) / 4,
            "conv_out.bias": torch.randn(16, generator=generator) / 4,
        }
        self._added: dict[str, Tensor] = {}
        self.gradient_passes = 0
        self.passes = 0

    @property
    def weights(self) -> dict[str, Tensor]:
        return {layer: self.values[layer] for layer in LAYERS}

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        (maps,) = self.attention(latents, timesteps, prompt_embeds)
        values = prompt_embeds @ self._weight("a.to_v").T  # (B, L, OUT)
        attended = (maps[:, 0] @ values @ self.values["a.to_out"].T)[:, 0]
        skipped = latents.flatten(1) @ self.values["skip"].T + self.values["skip.bias"]
        return (attended + skipped + self.values["conv_out.bias"]).reshape(latents.shape)

    def attention(
        self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> tuple[Tensor, ...]:
        self.passes += 1
        self.gradient_passes += torch.is_grad_enabled()
        queries = latents.flatten(1)[:, None] @ self.values["a.to_q"].T  # (B, 1, OUT)
        keys = prompt_embeds @ self._weight("a.to_k").T
        return ((queries @ keys.transpose(1, 2) / OUT**0.5).softmax(-1)[:, None],)

    def _weight(self, layer: str) -> Tensor:
        return self.values[layer] + self._added.get(layer, 0)

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

    @contextmanager
    def trainable(self, names: Iterable[str]) -> Iterator[Trained]:
        base = self.values
        picked = {name: base[name].clone().requires_grad_(True) for name in names}
        self.values = base | picked
        try:
            yield Trained(picked, base)
        finally:
            self.values = base

    def edited(self, erasure: Erasure) -> AttentionModel:
        """The model with a change in it."""
        model = AttentionModel(self.weights)
        for name, factor in erasure.factors.items():
            model.values[name] = self.values[name] + factor @ erasure.support
        for name, delta in erasure.dense.items():
            model.values[name] = self.values[name] + delta
        return model


@pytest.fixture
def model(weights: dict[str, Tensor]) -> AttentionModel:
    """The noise model over the two layers."""
    return AttentionModel(weights)


@pytest.fixture
def steps() -> list[Step]:
    """What a training reports."""
    return []


@pytest.fixture
def data(model: AttentionModel, steps: list[Step]) -> TrainingData:
    """Two images a prompt."""
    latents = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(4))
    return TrainingData(model, latents, (0, 1, 2, 0, 1, 2), steps.append)


@pytest.fixture
def unseen(data: TrainingData) -> tuple[Tensor, Tensor, Tensor]:
    """The images with noise that nothing was trained on, their timesteps and prompts."""
    generator = torch.Generator().manual_seed(5)
    latents = data.latents.repeat(5, 1, 1, 1)
    timesteps = torch.randint(1000, (30,), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    return data.model.noised(latents, timesteps, noise), timesteps, torch.arange(30) % 3


class KeptStates:
    """Keeps every state, by way of the bytes of a file."""

    def __init__(self) -> None:
        self.files: list[bytes] = []

    def save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state()), buffer)
        self.files.append(buffer.getvalue())

    def load(self) -> Mapping[str, Any] | None:
        return torch.load(io.BytesIO(self.files[-1]), weights_only=True) if self.files else None


@pytest.fixture
def kept() -> KeptStates:
    """An empty place for states."""
    return KeptStates()


class OutOfPatienceError(Exception):
    """Somebody interrupts a training."""


@pytest.fixture
def resumed(
    data: TrainingData, steps: list[Step], kept: KeptStates
) -> Callable[[Callable[[TrainingData], Any], int], Any]:
    """Interrupts a training after a step and continues it; ``steps`` holds the further ones."""

    def resume(erase: Callable[[TrainingData], Any], after: int) -> Any:
        def interrupt(step: Step) -> None:
            if step.number == after:
                raise OutOfPatienceError

        with pytest.raises(OutOfPatienceError):
            erase(replace(data, observe=interrupt, checkpoints=kept))
        assert len(kept.files) == after
        steps.clear()
        return erase(replace(data, checkpoints=kept))

    return resume


def assert_same_bits(one: Erasure, other: Erasure) -> None:
    """Compares all tensors of two changes."""
    assert torch.equal(one.support, other.support)
    for mine, theirs in ((one.factors, other.factors), (one.dense, other.dense)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def same_bits() -> Callable[[Erasure, Erasure], None]:
    """The comparison of two changes."""
    return assert_same_bits
