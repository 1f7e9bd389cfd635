"""Images from prompts and seeds, and the noise that they start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from shiftreg.pipelines.families import family_of, network_of
from shiftreg.pipelines.prompts import token_ids

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_BATCH = 25


class Sampling(TypedDict):
    """How images are generated.

    Attributes:
        noise: ``(n, C, h, w)``, to begin with in place of the seeds' own.
        observe: Called with the number of images done, after every batch.
    """

    steps: int
    guidance: float
    noise: NotRequired[Tensor | None]
    observe: NotRequired[Callable[[int], None] | None]


def generate(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    **sampling: Unpack[Sampling],
) -> np.ndarray:
    """Generates one image for each pair of prompt and seed.

    The noise of a seed is the same whatever the prompt, the batch or the weights, so that images
    of a base and of a composition can be compared one by one.

    Args:
        pipeline: The base, with whatever weights are applied.
        prompts: One an image; or their embeddings ``(n, L, d_in)``, and what else a pipeline takes
            from a prompt (SDXL's pooled embedding) is then that of the empty one.
        seeds: One an image.
        **sampling: See :class:`Sampling`.

    Returns:
        uint8 array ``(n, H, W, 3)``.

    Raises:
        InvalidInputError: A prompt is too long.
    """
    batches = list(_generate(pipeline, prompts, seeds, "np", **sampling))
    return np.round(np.concatenate(batches) * 255).astype(np.uint8)


def generate_latents(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    **sampling: Unpack[Sampling],
) -> Tensor:
    """As :func:`generate`, but for the decoder: float latents ``(n, C, h, w)``."""
    return torch.cat(list(_generate(pipeline, prompts, seeds, "latent", **sampling)))


@torch.no_grad()
def _generate(
    pipeline: DiffusionPipeline,
    prompts: Sequence[str] | Tensor,
    seeds: Sequence[int],
    form: Literal["np", "latent"],
    *,
    steps: int,
    guidance: float,
    noise: Tensor | None = None,
    observe: Callable[[int], None] | None = None,
) -> Iterator[Any]:
    if not isinstance(prompts, Tensor):
        token_ids(pipeline, prompts)
    family = family_of(pipeline)
    for start in range(0, len(prompts), _BATCH):
        chunk = slice(start, start + _BATCH)
        with family.call_options(prompts[chunk]) as wanted:
            yield pipeline(
                **wanted,
                latents=None if noise is None else noise[chunk],
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[chunk]],
                num_inference_steps=steps,
                guidance_scale=guidance,
                output_type=form,
            ).images
        if observe:
            observe(min(start + _BATCH, len(prompts)))


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
