"""Images from prompts and seeds, and the noise that they start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import torch
from torch import Tensor

from shiftreg.pipelines.families import family_of, network_of
from shiftreg.pipelines.prompts import token_ids

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_BATCH = 25


@overload
def generate(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    latents: Literal[False] = False,
    noise: Tensor | None = None,
    observe: Callable[[int], None] | None = None,
) -> np.ndarray: ...


@overload
def generate(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    latents: Literal[True],
    noise: Tensor | None = None,
    observe: Callable[[int], None] | None = None,
) -> Tensor: ...


@torch.no_grad()
def generate(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    latents: bool = False,
    noise: Tensor | None = None,
    observe: Callable[[int], None] | None = None,
) -> np.ndarray | Tensor:
    """Generates one image for each pair of prompt and seed.

    The noise of a seed is the same whatever the prompt, the batch or the weights, so that images
    of a base and of a composition can be compared one by one.

    Args:
        pipeline: The base, with whatever weights are applied.
        prompts: One an image; or their embeddings ``(n, L, d_in)``, and what else a pipeline takes
            from a prompt (SDXL's pooled embedding) is then that of the empty one.
        seeds: One an image.
        latents: Return latents instead of decoded images.
        noise: ``(n, C, h, w)``, to begin with in place of the seeds' own.
        observe: Called with the number of images done, after every batch.

    Returns:
        uint8 array ``(n, H, W, 3)``, or float latents ``(n, C, h, w)``.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    if not isinstance(prompts, Tensor):
        token_ids(pipeline, prompts)
    family = family_of(pipeline)
    batches = []
    for start in range(0, len(prompts), _BATCH):
        chunk = slice(start, start + _BATCH)
        with family.call_options(prompts[chunk]) as wanted:
            output = pipeline(
                **wanted,
                latents=None if noise is None else noise[chunk],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[chunk]],
                num_inference_steps=steps,
                guidance_scale=guidance,
                output_type="latent" if latents else "np",
            ).images
        batches.append(output)
        if observe:
            observe(min(start + _BATCH, len(prompts)))
    if latents:
        return torch.cat(batches)
    return np.round(np.concatenate(batches) * 255).astype(np.uint8)


def starting_noise(pipeline: DiffusionPipeline, seed: int, count: int = 1) -> Tensor:
    """Draws the noise of all images of one seed at once, as ESD's evaluation scripts do.

    One image starts from what :func:`generate` draws for the seed. Of several, each starts from
    its slice of one draw, so that they depend on how many there are.

    Returns:
        ``(count, C, h, w)`` float32, of unit variance: the scheduler's scale is not in it yet.
    """
    height, width = _latent_size(pipeline)
    shape = (count, network_of(pipeline).config.in_channels, height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image_size(pipeline: DiffusionPipeline) -> tuple[int, int]:
    """Width and height, in pixels, of the images that the base makes."""
    height, width = _latent_size(pipeline)
    return width * pipeline.vae_scale_factor, height * pipeline.vae_scale_factor


def _latent_size(pipeline: DiffusionPipeline) -> tuple[int, int]:
    """Height and width; a configuration gives both, or one number for a square."""
    size = network_of(pipeline).config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)
