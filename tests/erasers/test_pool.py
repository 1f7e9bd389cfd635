"""The pool: noised images, each with its own prompt, and what the base predicts for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from shiftreg.erasers import ErasureProblem, TrainingData
from shiftreg.erasers.pool import NoisePool, everywhere
from shiftreg.errors import InvalidInputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_row_keeps_the_prompt_of_its_image(data: TrainingData) -> None:
    # Images so bright that no noise hides which one a row shows.
    bright = torch.arange(1.0, 7).reshape(6, 1, 1, 1) * 1e6
    prompts = (2, 0, 1, 1, 0, 2)
    shown = replace(data, latents=bright.expand(-1, 1, 4, 4), pair_index=prompts)
    pool = NoisePool.draw(shown, 50, generator())
    share = (pool.timesteps / 1000).reshape(-1, 1, 1, 1)
    images = (pool.noisy / (1 - share) / 1e6).mean(dim=(1, 2, 3)).round().long() - 1
    assert set(images.tolist()) == set(range(6))
    assert pool.prompts.tolist() == [prompts[image] for image in images.tolist()]


def test_the_noise_is_what_the_base_predicts_for_the_row_s_prompt(
    data: TrainingData, problem: ErasureProblem
) -> None:
    references = (problem.prompt_embeds, problem.anchor_embeds)
    pool = NoisePool.draw(data, 40, generator(), references)  # two chunks and a half
    for embeds, noise in zip(references, pool.noise, strict=True):
        expected = data.model.predict(pool.noisy, pool.timesteps, embeds[pool.prompts])
        assert torch.allclose(noise, expected, atol=1e-6)
        assert not noise.requires_grad
    assert not torch.equal(*pool.noise)


def test_without_references_the_base_predicts_nothing(data: TrainingData) -> None:
    model: Any = data.model
    assert NoisePool.draw(data, 20, generator()).noise == ()
    assert model.passes == 0


def test_timesteps_are_spread_over_the_whole_schedule(data: TrainingData) -> None:
    timesteps = NoisePool.draw(data, 2000, generator()).timesteps
    assert timesteps.dtype == torch.int64
    assert 0 <= timesteps.min() < 20
    assert 980 < timesteps.max() < 1000
    assert 450 < timesteps.float().mean() < 550


def test_the_generator_alone_decides(data: TrainingData) -> None:
    everybody = torch.get_rng_state()
    one, same, other = (NoisePool.draw(data, 9, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), everybody)
    assert torch.equal(one.noisy, same.noisy)
    assert not torch.equal(one.noisy, other.noisy)


def test_a_sample_has_no_row_twice_and_no_more_than_there_are(data: TrainingData) -> None:
    pool = NoisePool.draw(data, 10, generator())
    random = generator()
    first, second = pool.sample(8, random), pool.sample(8, random)
    assert len(set(first.tolist())) == 8
    assert not torch.equal(first, second)
    assert sorted(pool.sample(99, random).tolist()) == list(range(10))


def test_nothing_to_noise_is_refused(data: TrainingData) -> None:
    for missing in (None, replace(data, latents=torch.zeros(0, 1, 4, 4), pair_index=())):
        with pytest.raises(InvalidInputError, match="Generate some first"):
            NoisePool.draw(missing, 4, generator())


def test_one_prompt_stands_for_every_prompt(problem: ErasureProblem) -> None:
    reference = everywhere(problem, problem.empty_embeds)
    assert reference.shape == problem.prompt_embeds.shape
    assert all(torch.equal(embeds, problem.empty_embeds) for embeds in reference)
