"""An attacker's view of a tiny random base, whose predictions are counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg import pipelines
from shiftreg.attacks import Attack, AttackResult, Surface
from shiftreg.erasers import Step


class CountingDenoiser(pipelines.Denoiser):
    """Counts the noised images that it is asked about."""

    asked = 0

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        self.asked += len(latents)
        return super().predict(latents, timesteps, prompt_embeds)


@pytest.fixture(scope="session")
def tiny_pipeline(base: Path) -> StableDiffusionPipeline:
    """Its vocabulary is the letters; tests put back what they change."""
    return pipelines.load_pipeline(base)


@pytest.fixture
def steps() -> list[Step]:
    """What an attack reports."""
    return []


@pytest.fixture
def model(tiny_pipeline: StableDiffusionPipeline) -> CountingDenoiser:
    """The model under attack."""
    return CountingDenoiser(tiny_pipeline)


@pytest.fixture
def surface(
    tiny_pipeline: StableDiffusionPipeline, model: CountingDenoiser, steps: list[Step]
) -> Surface:
    """An attack on the base itself; images 0 and 3 were generated for the bare name."""
    return Surface(
        model=model,
        words=pipelines.SoftPrompts(tiny_pipeline),
        base_weights=pipelines.layer_weights(tiny_pipeline.unet),
        concept="nox",
        prompts=("nox", "a nox", "art by nox", "adas art"),
        anchors=("a painting", "a picture", "art", "art"),
        latents=torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        latent_prompts=(0, 1, 2, 0, 3, 1),
        observe=steps.append,
    )


def same(one: AttackResult, other: AttackResult) -> bool:
    """Whether two attacks found the very same."""
    alike = (one.text, one.metrics) == (other.text, other.metrics)
    return alike and torch.equal(one.prompt_embeds, other.prompt_embeds)


@pytest.fixture
def repeats(surface: Surface) -> Callable[[Attack], tuple[bool, bool]]:
    """Whether an attack finds the same with the same seed, and with another one."""

    def run(attack: Attack) -> tuple[bool, bool]:
        first = attack.run(surface, 1)
        torch.manual_seed(99)  # nothing of this may matter
        return same(first, attack.run(surface, 1)), same(first, attack.run(surface, 2))

    return run
