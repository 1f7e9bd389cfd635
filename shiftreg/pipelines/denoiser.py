"""Noise predictions of a base, with and without changed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from shiftreg.pipelines.layers import image_independent_layers, layer_weights


@contextmanager
def applied_weights(unet: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts other weights into a model for the time of a block; the old ones return bit for bit.

    Args:
        unet: The model.
        weights: Layer name -> ``(d_out, d_in)``, as ``compose.merged_weights`` returns it.
    """
    layers = image_independent_layers(unet)
    kept = {name: layers[name].weight.data for name in weights}
    try:
        for name, weight in weights.items():
            layers[name].weight.data = weight.to(kept[name])
        yield
    finally:
        for name, weight in kept.items():
            layers[name].weight.data = weight


class Denoiser:
    """The frozen noise predictor of a base, as the erasers see it.

    Attributes:
        weights: Layer name -> ``W_l (d_out, d_in)``.
        alphas: ``(T,)``, the cumulative products of the noise schedule.
    """

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self._unet = pipeline.unet
        self._layers = image_independent_layers(pipeline.unet)
        self.weights = layer_weights(pipeline.unet)
        self.alphas: Tensor = pipeline.scheduler.alphas_cumprod

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Predicts the noise, ``(B, C, h, w)``.

        Args:
            latents: ``x_t (B, C, h, w)``.
            timesteps: ``t (B,)`` int64.
            prompt_embeds: ``e(p) (B, L, d_in)``.
        """
        return self._unet(latents, timesteps, encoder_hidden_states=prompt_embeds).sample

    @contextmanager
    def shifted(self, support: Tensor, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Adds ``x @ Q.T @ A_l.T`` to the layers for a block, differentiably in ``A_l``.

        Args:
            support: ``Q (q, d_in)``.
            factors: Layer name -> ``A_l (d_out, q)``.
        """

        def hook(factor: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                return output + (inputs[0] @ support.T) @ factor.T

            return add

        handles = [
            self._layers[name].register_forward_hook(hook(factor))
            for name, factor in factors.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def noised(self, latents: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise``, ``(B, C, h, w)``."""
        alpha = self.alphas[timesteps][:, None, None, None]
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


@torch.no_grad()
def noise_difference(
    pipeline: StableDiffusionPipeline,
    weights: Mapping[str, Tensor],
    prompt_embeds: Tensor,
    seed: int = 0,
    timesteps: tuple[int, ...] = (900, 500, 100),
) -> Tensor:
    """How far changed weights move the noise predictions of prompts.

    Args:
        pipeline: The base.
        weights: The changed weights.
        prompt_embeds: ``(n, L, d_in)``.
        seed: Of the latents, the same for all prompts.
        timesteps: At which predictions are compared.

    Returns:
        ``(n,)``: the largest ``|changed - base| / |base|`` over the timesteps.
    """
    config = pipeline.unet.config
    generator = torch.Generator().manual_seed(seed)
    shape = (1, config.in_channels, config.sample_size, config.sample_size)
    latents = torch.randn(shape, generator=generator).expand(len(prompt_embeds), -1, -1, -1)
    denoiser = Denoiser(pipeline)

    def predict(step: int) -> Tensor:
        steps = torch.full((len(prompt_embeds),), step)
        chunks = zip(latents.split(16), steps.split(16), prompt_embeds.split(16), strict=True)
        return torch.cat([denoiser.predict(*chunk) for chunk in chunks]).flatten(1)

    worst = torch.zeros(len(prompt_embeds))
    for step in timesteps:
        before = predict(step)
        with applied_weights(pipeline.unet, weights):
            after = predict(step)
        worst = torch.maximum(worst, (after - before).norm(dim=1) / before.norm(dim=1))
    return worst
