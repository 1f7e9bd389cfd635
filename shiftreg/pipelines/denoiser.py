"""Noise predictions of a base, with and without changed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor, nn

from shiftreg.pipelines.layers import (
    cross_attention_parameters,
    image_independent_layers,
    layer_weights,
    parameters,
)

ENDS = ("time_embedding.", "conv_norm_out", "conv_out")


@contextmanager
def applied_weights(unet: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts other weights into a model for the time of a block; the old ones return bit for bit.

    Args:
        unet: The model.
        weights: Parameter -> its value, as ``compose.merged_weights`` returns it.
    """
    own = parameters(unet)
    kept = {name: own[name].data for name in weights}
    try:
        for name, weight in weights.items():
            own[name].data = weight.to(kept[name])
        yield
    finally:
        for name, weight in kept.items():
            own[name].data = weight


@dataclass(frozen=True)
class Trained:
    """Parameters that are being trained in place.

    Attributes:
        parameters: Name -> the parameter.
        base: Name -> the base's value.
    """

    parameters: Mapping[str, nn.Parameter]
    base: Mapping[str, Tensor]

    def deltas(self) -> dict[str, Tensor]:
        """How far each parameter has moved, float32; only those that have."""
        moved = {
            name: (parameter.detach().double() - self.base[name].double()).float()
            for name, parameter in self.parameters.items()
        }
        return {name: delta for name, delta in moved.items() if delta.any()}


class Denoiser:
    """The frozen noise predictor of a base, as the erasers see it.

    Attributes:
        weights: Layer name -> ``W_l (d_out, d_in)``.
        cross_attention: Names of all parameters of the cross-attentions.
        others: Names of all other parameters, but those of the time embedding and the output.
        alphas: ``(T,)``, the cumulative products of the noise schedule.
    """

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        self._unet = pipeline.unet
        self._layers = image_independent_layers(pipeline.unet)
        self.weights = layer_weights(pipeline.unet)
        self.cross_attention = cross_attention_parameters(pipeline.unet)
        self.others = tuple(
            name
            for name in parameters(pipeline.unet)
            if name not in self.cross_attention and not name.startswith(ENDS)
        )
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

    @contextmanager
    def trainable(self, names: Iterable[str]) -> Iterator[Trained]:
        """Lets parameters be trained in place for a block; the base's values return bit for bit.

        Args:
            names: Of the parameters.

        Yields:
            The parameters, which start as copies of the base's.
        """
        own = parameters(self._unet)
        picked = {name: own[name] for name in names}
        kept = {name: parameter.data for name, parameter in picked.items()}
        try:
            for parameter in picked.values():
                parameter.data = parameter.data.clone()
                parameter.requires_grad_(True)
            yield Trained(picked, kept)
        finally:
            for name, parameter in picked.items():
                parameter.requires_grad_(False)
                parameter.grad = None
                parameter.data = kept[name]

    def attention(
        self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor
    ) -> tuple[Tensor, ...]:
        """The attention maps of all cross-attentions, differentiably.

        Args:
            latents: ``x_t (B, C, h, w)``.
            timesteps: ``t (B,)`` int64.
            prompt_embeds: ``e(p) (B, L, d_in)``.

        Returns:
            One ``(B, heads, pixels, L)`` a cross-attention; each sums to 1 over the tokens.
        """
        maps: list[Tensor] = []
        queries: dict[str, Tensor] = {}

        def keep_query(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
                queries[name] = output

            return keep

        def add_map(
            name: str, heads: int, scale: float
        ) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def add(_module: nn.Module, _inputs: tuple[Tensor, ...], key: Tensor) -> None:
                q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (queries[name], key))
                maps.append((q @ k.transpose(-1, -2) * scale).softmax(dim=-1))

            return add

        handles = []
        for name, module in self._unet.named_modules():
            if getattr(module, "is_cross_attention", False):
                handles.append(module.to_q.register_forward_hook(keep_query(name)))
                add = add_map(name, module.heads, module.scale)
                handles.append(module.to_k.register_forward_hook(add))
        try:
            self.predict(latents, timesteps, prompt_embeds)
        finally:
            for handle in handles:
                handle.remove()
        return tuple(maps)

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
