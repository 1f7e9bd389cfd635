"""Relearning: trains what it says, from the weights under attack, and leaves them as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shiftreg import pipelines
from shiftreg.attacks import Surface
from shiftreg.attacks.relearning import Relearning
from shiftreg.erasers import Step
from shiftreg.errors import InvalidInputError


@pytest.fixture(scope="module")
def pipeline(base: Path) -> pipelines.StableDiffusionPipeline:
    return pipelines.load_pipeline(base)


@pytest.fixture
def surface(pipeline: pipelines.StableDiffusionPipeline) -> Surface:
    """An attacker's view of a tiny base, with the weights that it has at the moment."""
    return Surface(
        model=pipelines.Denoiser(pipeline),
        words=pipelines.SoftPrompts(pipeline),
        base_weights={},
        concept="cat",
        prompts=("cat",),
        anchors=("a picture",),
        latents=torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        latent_prompts=(0,) * 6,
        observe=lambda step: None,
    )


@pytest.fixture(autouse=True)
def untouched(pipeline: pipelines.StableDiffusionPipeline) -> Iterator[None]:
    """After every test the base has its very tensors, and trains nothing."""
    own = pipelines.parameters(pipeline.unet)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in own.items()}
    yield
    for name, parameter in own.items():
        assert (parameter.data_ptr(), parameter.requires_grad) == (before[name][0], False), name
        assert torch.equal(parameter, before[name][1]), name


def loss(surface: Surface) -> float:
    """What relearning minimises, on many draws."""
    generator = torch.Generator().manual_seed(9)
    latents = surface.latents.repeat(20, 1, 1, 1)
    timesteps = torch.randint(1000, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    noisy = surface.model.noised(latents, timesteps, noise)
    embeds = surface.words.encode([surface.concept]).expand(len(latents), -1, -1)
    with torch.no_grad():
        return float((surface.model.predict(noisy, timesteps, embeds) - noise).square().mean())


def added(
    pipeline: pipelines.StableDiffusionPipeline, deltas: dict[str, Tensor]
) -> dict[str, Tensor]:
    own = pipelines.parameters(pipeline.unet)
    return {name: own[name].detach() + delta for name, delta in deltas.items()}


def test_what_it_learns_lowers_the_loss_and_changes_keys_and_values_alone(
    surface: Surface, pipeline: pipelines.StableDiffusionPipeline
) -> None:
    before = loss(surface)
    found = Relearning(iterations=30, learning_rate=0.01).run(surface, seed=0)
    assert found.deltas.keys() == pipelines.layer_weights(pipeline.unet).keys()
    with pipelines.applied_weights(pipeline.unet, added(pipeline, dict(found.deltas))):
        assert loss(surface) < before
    assert found.start is None
    assert torch.equal(found.prompt_embeds, surface.words.encode(["cat"]))
    assert "6 images" in found.text


def test_it_starts_from_the_weights_under_attack_and_its_deltas_come_on_top_of_them(
    pipeline: pipelines.StableDiffusionPipeline, surface: Surface
) -> None:
    own = pipelines.parameters(pipeline.unet)
    layer = next(iter(surface.model.weights))
    attacked = {layer: own[layer].detach() + 100.0}
    with pipelines.applied_weights(pipeline.unet, attacked):
        here = replace(surface, model=pipelines.Denoiser(pipeline))
        found = Relearning(iterations=2, learning_rate=1e-3).run(here, seed=0)
        assert torch.equal(own[layer], attacked[layer]), "the weights under attack are back"
    # Adam moves a weight by about its rate a step: from the base, it would be a hundred.
    assert 0 < found.deltas[layer].abs().max() < 0.01
    elsewhere = Relearning(iterations=2, learning_rate=1e-3).run(surface, seed=0)
    assert not torch.equal(elsewhere.deltas[layer], found.deltas[layer])


def test_the_same_seed_learns_the_same(surface: Surface) -> None:
    attack = Relearning(iterations=2)
    one, same, other = (attack.run(surface, seed).deltas for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_on_no_more_images_than_it_may(surface: Surface) -> None:
    few = replace(surface, latents=surface.latents[:2])
    attack = Relearning(iterations=2, images=2)
    one, same = attack.run(surface, 0), attack.run(few, 0)
    assert all(torch.equal(one.deltas[name], same.deltas[name]) for name in one.deltas)
    assert "2 images" in one.text


def test_each_step_is_told_with_its_loss(surface: Surface) -> None:
    steps: list[Step] = []
    Relearning(iterations=3).run(replace(surface, observe=steps.append), seed=0)
    assert [(step.number, step.limit) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert all(step.values["loss"] > 0 for step in steps)


def test_interrupted_it_leaves_the_weights_as_they_were(surface: Surface) -> None:
    def interrupt(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Relearning().run(replace(surface, observe=interrupt), seed=0)


def test_without_images_or_steps_there_is_nothing_to_learn(surface: Surface) -> None:
    with pytest.raises(InvalidInputError, match="Generate some"):
        Relearning().run(replace(surface, latents=surface.latents[:0]), seed=0)
    with pytest.raises(InvalidInputError, match="iterations"):
        Relearning(iterations=0)
