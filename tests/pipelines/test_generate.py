"""The noise that images start from."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from shiftreg import miniature
from shiftreg.pipelines import generate, image_size, load_pipeline, starting_noise


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return load_pipeline(miniature.BASE_FOLDER)


def test_one_image_starts_from_the_noise_that_generate_draws_for_its_seed(
    pipeline: StableDiffusionPipeline,
) -> None:
    prompts, seeds = ["Picasso", "a church"], [3, 2**63 - 1]
    noise = torch.cat([starting_noise(pipeline, seed) for seed in seeds])
    own = generate(pipeline, prompts, seeds, steps=2, guidance=2.0)
    given = generate(pipeline, prompts, [0, 0], steps=2, guidance=2.0, noise=noise)
    assert (given == own).all()
    other = generate(pipeline, prompts, [0, 0], steps=2, guidance=2.0)
    assert (other != own).any()


def test_several_images_start_from_slices_of_one_draw(pipeline: StableDiffusionPipeline) -> None:
    noise = starting_noise(pipeline, 5, 3)
    draw = torch.randn((3, 4, 16, 16), generator=torch.manual_seed(5))
    assert torch.equal(noise, draw)
    assert not torch.equal(noise[0], noise[1])


def test_noise_leaves_the_global_generator_alone(pipeline: StableDiffusionPipeline) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    starting_noise(pipeline, 5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("size", "pixels"), [(16, (64, 64)), ([8, 16], (64, 32))])
def test_images_have_the_size_that_is_foretold(
    size: int | list[int], pixels: tuple[int, int]
) -> None:
    parts = load_pipeline(miniature.BASE_FOLDER).components
    parts["unet"].register_to_config(sample_size=size)
    pipeline = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    [image] = generate(pipeline, ["a church"], [0], steps=1, guidance=1.0)
    assert image_size(pipeline) == pixels
    assert image.shape == (*reversed(pixels), 3)
    assert starting_noise(pipeline, 0).shape == (1, 4, pixels[1] // 4, pixels[0] // 4)
