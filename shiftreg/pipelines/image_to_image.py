"""Images generated from others: noised and denoised again, or completed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.pipelines.families import family_of
from shiftreg.pipelines.images import starting_noise

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_BATCH = 25  # as in generate: equal batches give equal bits


@torch.no_grad()
def continue_images(
    pipeline: DiffusionPipeline,
    prompt_embeds: Tensor,
    seeds: Sequence[int],
    start_latents: Tensor,
    *,
    strength: float,
    keep: Tensor | None = None,
    steps: int,
    guidance: float,
    observe: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Generates images from others in place of pure noise.

    At strength 1 nothing is left of what they start from, and without ``keep`` the images are
    those of :func:`~shiftreg.pipelines.generate.generate`.

    Source: SDEdit (Meng et al. 2022) for the start; RePaint (Lugmayr et al. 2022), without its
    resampling, for the part that is kept.

    Args:
        pipeline: The base, with whatever weights are applied.
        prompt_embeds: ``(n, L, d_in)``.
        seeds: One an image; its noise is that of :func:`~shiftreg.pipelines.generate.generate`.
        start_latents: ``x_0 (n, C, h, w)``, as ``generate_latents`` returns it.
        strength: Share of the denoising steps that are generated again, above 0 and at most 1.
        keep: ``(h, w)`` bool. Where it is set, every step is held to the noised start, and the
            result to the start itself; the decoder still sees both parts together.
        steps: Denoising steps of a whole image.
        observe: Called with the number of images done, after every batch.

    Returns:
        uint8 array ``(n, H, W, 3)``.

    Raises:
        InvalidInputError: Another strength, or not one seed and one start a prompt.
    """
    if not 0 < strength <= 1:
        raise InvalidInputError(
            f"strength is the share of steps that are run again, above 0 and at most 1, and it is "
            f"{strength}."
        )
    if not len(prompt_embeds) == len(seeds) == len(start_latents):
        raise InvalidInputError(
            f"An image needs a prompt, a seed and a start, and there are {len(prompt_embeds)} "
            f"prompts, {len(seeds)} seeds and {len(start_latents)} starts."
        )
    batches = []
    for first in range(0, len(seeds), _BATCH):
        chunk = slice(first, first + _BATCH)
        embeds, start = prompt_embeds[chunk], start_latents[chunk]
        latents = _denoise(pipeline, embeds, start, seeds[chunk], strength, keep, steps, guidance)
        decoded = pipeline.vae.decode(_unscaled(pipeline, latents), return_dict=False)[0]
        batches.append(pipeline.image_processor.postprocess(decoded, output_type="np"))
        if observe:
            observe(min(first + _BATCH, len(seeds)))
    return np.round(np.concatenate(batches) * 255).astype(np.uint8)


def _denoise(
    pipeline: DiffusionPipeline,
    prompt_embeds: Tensor,
    start: Tensor,
    seeds: Sequence[int],
    strength: float,
    keep: Tensor | None,
    steps: int,
    guidance: float,
) -> Tensor:
    """One batch of :func:`continue_images`, as latents ``(n, C, h, w)``."""
    scheduler = pipeline.scheduler
    guided = guidance > 1
    family = family_of(pipeline)
    inputs = family.inputs(prompt_embeds, guided=guided)
    scheduler.set_timesteps(steps)
    skipped = len(scheduler.timesteps) - max(1, round(strength * len(scheduler.timesteps)))
    timesteps = scheduler.timesteps[skipped:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    noise = torch.cat([starting_noise(pipeline, seed) for seed in seeds]).to(start)

    def noised(timestep: Tensor) -> Tensor:
        return scheduler.add_noise(start, noise, timestep.expand(len(start)))

    latents = noise * scheduler.init_noise_sigma if strength == 1 else noised(timesteps[0])
    options = pipeline.prepare_extra_step_kwargs(
        [torch.Generator().manual_seed(seed) for seed in seeds], eta=0.0
    )
    for i, timestep in enumerate(timesteps):
        batch = torch.cat([latents, latents]) if guided else latents
        predicted = family.run(scheduler.scale_model_input(batch, timestep), timestep, inputs)
        if guided:
            empty, prompted = predicted.chunk(2)
            predicted = empty + guidance * (prompted - empty)
        latents = scheduler.step(predicted, timestep, latents, **options, return_dict=False)[0]
        if keep is not None:
            is_last = i + 1 == len(timesteps)
            known = start if is_last else noised(timesteps[i + 1])
            latents = torch.where(keep, known, latents)  # (h, w) over (n, C, h, w)
    return latents


def _unscaled(pipeline: DiffusionPipeline, latents: Tensor) -> Tensor:
    """Latents as the decoder takes them; some autoencoders know mean and deviation of theirs."""
    config = pipeline.vae.config
    mean, deviation = (
        config.get(f"latents_{moment}") and latents.new_tensor(config[f"latents_{moment}"])
        for moment in ("mean", "std")
    )
    if mean is None or deviation is None:
        return latents / config.scaling_factor
    return latents * deviation[:, None, None] / config.scaling_factor + mean[:, None, None]
