"""Images from prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, overload

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from shiftreg.pipelines.families import family_of
from shiftreg.pipelines.prompts import token_ids

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
        steps: Denoising steps.
        guidance: Scale of classifier-free guidance.
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
        with family.painting(prompts[chunk]) as wanted:
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
