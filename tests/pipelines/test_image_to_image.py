"""Generation on from images: how much of them stays, and that nothing else is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.pipelines import encode_prompts, generate, generate_latents, load_pipeline
from shiftreg.pipelines.image_to_image import continue_images

PROMPTS = ["a tree", "a house", "a cat"]
SEEDS = [4, 5, 6]


@pytest.fixture(scope="module")
def pipeline(base: Path) -> StableDiffusionPipeline:
    return load_pipeline(base)


@pytest.fixture(scope="module")
def embeds(pipeline: StableDiffusionPipeline) -> Tensor:
    return encode_prompts(pipeline, PROMPTS)


@pytest.fixture(scope="module")
def start(pipeline: StableDiffusionPipeline) -> Tensor:
    """Images of the base."""
    options = {"steps": 4, "guidance": 2.0}
    return generate_latents(pipeline, ["a dog"] * 3, [1, 2, 3], **options)


def images_of(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor, **options: Any
) -> np.ndarray:
    given: dict[str, Any] = {"strength": 0.5, "steps": 4, "guidance": 3.0} | options
    return continue_images(pipeline, embeds, SEEDS, start, **given)


def decoded(pipeline: StableDiffusionPipeline, latents: Tensor) -> np.ndarray:
    scaled = latents / pipeline.vae.config.scaling_factor
    images = pipeline.vae.decode(scaled).sample.detach()
    return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("steps", [2, 3])
def test_from_full_strength_the_images_are_those_that_generate_generates(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor, guidance: float, steps: int
) -> None:
    plain = generate(pipeline, embeds, SEEDS, steps=steps, guidance=guidance)
    continued = images_of(pipeline, embeds, start, strength=1.0, steps=steps, guidance=guidance)
    assert np.array_equal(continued, plain)


def test_many_images_are_generated_in_the_batches_of_generate(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    many, seeds = embeds[:1].expand(27, -1, -1), list(range(27))
    done: list[int] = []
    continued = continue_images(
        pipeline,
        many,
        seeds,
        start[:1].expand(27, -1, -1, -1),
        strength=1.0,
        steps=1,
        guidance=2.0,
        observe=done.append,
    )
    assert np.array_equal(continued, generate(pipeline, many, seeds, steps=1, guidance=2.0))
    assert done == [25, 27]


def test_the_same_seeds_generate_the_same_and_others_do_not(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    first = images_of(pipeline, embeds, start)
    assert np.array_equal(first, images_of(pipeline, embeds, start))
    options: dict[str, Any] = {"strength": 0.5, "steps": 4, "guidance": 3.0}
    others = continue_images(pipeline, embeds, [7, 8, 9], start, **options)
    assert not np.array_equal(first, others)


def test_the_less_is_generated_again_the_more_of_the_start_stays(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    before = decoded(pipeline, start)
    moved = [
        distance(images_of(pipeline, embeds, start, strength=s, steps=10, guidance=1.0), before)
        for s in (0.1, 0.5, 1.0)
    ]
    assert moved == sorted(moved)
    assert moved[0] < 0.5 * moved[-1]


def test_a_strength_between_two_steps_takes_the_nearer_one_and_at_least_one(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    one_step = images_of(pipeline, embeds, start, strength=0.25)
    assert np.array_equal(images_of(pipeline, embeds, start, strength=0.01), one_step)
    assert np.array_equal(images_of(pipeline, embeds, start, strength=0.3), one_step)
    assert not np.array_equal(images_of(pipeline, embeds, start, strength=0.45), one_step)


def test_what_is_kept_whole_is_the_start_itself(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    keep = torch.ones(8, 8, dtype=torch.bool)
    kept = images_of(pipeline, embeds, start, strength=1.0, keep=keep)
    assert np.abs(kept - decoded(pipeline, start)).max() <= 0.51


def test_a_kept_half_is_the_start_and_the_rest_is_generated_beside_it(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor, monkeypatch: Any
) -> None:
    keep = torch.arange(8).expand(8, 8) < 4
    seen: list[Tensor] = []
    decode = pipeline.vae.decode

    def watched(latents: Tensor, **options: Any) -> Any:
        seen.append(latents * pipeline.vae.config.scaling_factor)
        return decode(latents, **options)

    monkeypatch.setattr(pipeline.vae, "decode", watched)
    images_of(pipeline, embeds, start, strength=1.0, keep=keep)
    images_of(pipeline, embeds, start, strength=1.0)
    with_half, without = seen
    assert torch.allclose(with_half[..., :4], start[..., :4], atol=1e-6)
    assert not torch.allclose(with_half[..., 4:], start[..., 4:], atol=0.1)
    assert not torch.allclose(with_half[..., 4:], without[..., 4:], atol=1e-3), "it sees the half"


def test_a_mask_that_keeps_nothing_changes_nothing(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    nothing = torch.zeros(8, 8, dtype=torch.bool)
    assert np.array_equal(
        images_of(pipeline, embeds, start, keep=nothing), images_of(pipeline, embeds, start)
    )


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, float("nan")])
def test_a_strength_that_is_no_share_is_refused(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor, strength: float
) -> None:
    with pytest.raises(InvalidInputError, match="strength"):
        images_of(pipeline, embeds, start, strength=strength)


def test_a_start_without_a_prompt_is_refused(
    pipeline: StableDiffusionPipeline, embeds: Tensor, start: Tensor
) -> None:
    with pytest.raises(InvalidInputError, match="2 starts"):
        images_of(pipeline, embeds, start[:2])
