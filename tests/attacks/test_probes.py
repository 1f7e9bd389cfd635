"""Probes: they hand over images of the concept, its name, and nothing of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shiftreg import pipelines
from shiftreg.attacks import Attack, Surface
from shiftreg.attacks.probes import CompletionProbe, NoiseProbe
from shiftreg.errors import InvalidInputError

PROBES = [NoiseProbe(), CompletionProbe()]


@pytest.fixture(scope="module")
def surface(base: Path) -> Surface:
    """An attacker's view of a tiny base; images 0 and 2 were generated for the bare name."""
    pipeline = pipelines.load_pipeline(base)
    return Surface(
        model=pipelines.Denoiser(pipeline),
        words=pipelines.SoftPrompts(pipeline),
        base_weights=pipelines.layer_weights(pipeline.unet),
        concept="cat",
        prompts=("cat", "a cat"),
        anchors=("a picture", "a picture"),
        latents=torch.randn(4, 4, 8, 6, generator=torch.Generator().manual_seed(0)),
        latent_prompts=(0, 1, 0, 1),
        observe=lambda step: None,
    )


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_starts_from_the_images_of_the_bare_name_and_says_the_name(
    probe: Attack, surface: Surface
) -> None:
    found = probe.run(surface, seed=0)
    assert found.start is not None
    assert torch.equal(found.start.latents, surface.latents[[0, 2]])
    assert torch.equal(found.prompt_embeds, surface.words.encode(["cat"]))
    assert '"cat"' in found.text
    assert found.deltas == {}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_without_a_image_of_the_bare_name_others_do(probe: Attack, surface: Surface) -> None:
    found = probe.run(replace(surface, latent_prompts=(1, 1, 1, 1)), seed=0)
    assert found.start is not None
    assert torch.equal(found.start.latents, surface.latents)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_without_any_image_there_is_nothing_to_probe_with(probe: Attack, surface: Surface) -> None:
    with pytest.raises(InvalidInputError, match="Generate some"):
        probe.run(replace(surface, latents=surface.latents[:0], latent_prompts=()), seed=0)


def test_the_noise_probe_generates_again_as_much_as_it_is_told(surface: Surface) -> None:
    start = NoiseProbe(strength=0.3).run(surface, seed=0).start
    assert start is not None
    assert (start.strength, start.keep) == (0.3, None)


def test_the_completion_probe_keeps_the_left_part_and_generates_the_rest_from_noise(
    surface: Surface,
) -> None:
    start = CompletionProbe(kept=0.5).run(surface, seed=0).start
    assert start is not None
    assert start.keep is not None
    assert start.strength == 1
    assert start.keep.shape == (8, 6)
    assert start.keep[:, :3].all()
    assert not start.keep[:, 3:].any()
    third = CompletionProbe(kept=1 / 3).run(surface, seed=0).start
    assert third is not None
    assert third.keep is not None
    assert third.keep.sum() == 8 * 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: NoiseProbe(strength=0),
        lambda: NoiseProbe(strength=1.1),
        lambda: NoiseProbe(strength=float("nan")),
        lambda: CompletionProbe(kept=0),
        lambda: CompletionProbe(kept=1),
    ],
)
def test_a_share_that_is_none_is_refused(build: Callable[[], Attack]) -> None:
    with pytest.raises(InvalidInputError, match="it is"):
        build()
