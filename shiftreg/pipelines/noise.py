"""The noise that images start from, and the sizes of both."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from shiftreg.pipelines.families import network_of


def starting_noise(pipeline: DiffusionPipeline, seed: int, count: int = 1) -> Tensor:
    """Draws the noise of all images of one seed at once, as ESD's evaluation scripts do.

    One image starts from what :func:`generate` draws for the seed. Of several, each starts from
    its slice of one draw, so that they depend on how many there are.

    Args:
        pipeline: The base.
        seed: Of the generator.
        count: Images.

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
