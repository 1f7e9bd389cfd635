"""Noised images: all levels of noise alike, measured by what the empty prompt explains."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shiftreg.attacks import Surface
from shiftreg.attacks.noised_images import NoisedImages
from shiftreg.errors import InvalidInputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_timesteps_are_spread_over_the_whole_schedule(surface: Surface) -> None:
    pool = NoisedImages.draw(surface, 20, generator())
    assert (pool.timesteps // 50).tolist() == list(range(20))


def test_a_sample_takes_from_every_level_of_noise(surface: Surface) -> None:
    pool, draw = NoisedImages.draw(surface, 20, generator()), generator(1)
    samples = torch.stack([pool.sample(5, draw) for _ in range(40)])
    assert torch.equal(samples // 4, torch.arange(5).expand(40, 5))
    assert samples.unique().tolist() == list(range(20))


def test_more_rows_than_there_are_can_be_sampled(surface: Surface) -> None:
    rows = NoisedImages.draw(surface, 3, generator()).sample(9, generator())
    assert rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_each_row_is_its_image_with_its_noise(surface: Surface) -> None:
    pool = NoisedImages.draw(surface, 40, generator())
    latents = surface.latents[pool.images]
    assert torch.equal(pool.noisy, surface.model.noised(latents, pool.timesteps, pool.noise))
    assert set(pool.images.tolist()) == set(range(6))


def test_the_empty_prompt_has_loss_one(surface: Surface) -> None:
    pool = NoisedImages.draw(surface, 20, generator())
    (empty,) = surface.words.encode([""])
    for rows in (torch.arange(20), torch.tensor([3]), torch.tensor([7, 0, 7])):
        assert pool.loss(empty, rows).item() == pytest.approx(1, abs=1e-4)
    (other,) = surface.words.encode(["nox"])
    assert pool.loss(other, torch.arange(20)).item() != pytest.approx(1, abs=1e-4)


def test_a_loss_may_be_that_of_one_prompt_a_row(surface: Surface) -> None:
    pool, rows = NoisedImages.draw(surface, 8, generator()), torch.tensor([1, 6])
    embeds = surface.words.encode(["nox", "art"])
    apart = [pool.loss(e, row[None]) for e, row in zip(embeds, rows, strict=True)]
    assert torch.allclose(pool.loss(embeds, rows), torch.stack(apart).mean(), atol=1e-5)


def test_the_images_of_one_prompt_are_preferred_if_there_are_any(surface: Surface) -> None:
    own = NoisedImages.draw(surface, 30, generator(), prompt=0)
    assert set(own.images.tolist()) == {0, 3}
    without = replace(surface, latent_prompts=(1, 2, 1, 2, 1, 2))
    assert len(NoisedImages.draw(without, 60, generator(), prompt=0).images.unique()) == 6


def test_without_images_there_is_nothing_to_noise(surface: Surface) -> None:
    none = replace(surface, latents=surface.latents[:0], latent_prompts=())
    with pytest.raises(InvalidInputError, match="Generate some"):
        NoisedImages.draw(none, 4, generator())
