"""Noise predictions of a base, with and without changed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shiftreg.errors import IncompatibleError
from shiftreg.pipelines.families import family_of, network_of
from shiftreg.pipelines.images import starting_noise
from shiftreg.pipelines.layers import (
    cross_attention_parameters,
    image_independent_layers,
    layer_weights,
    parameters,
)

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@contextmanager
def applied_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts other weights into a model for the time of a block; the old ones return bit for bit.

    Args:
        weights: Parameter -> its value, as ``compose.merged_weights`` returns it.
    """
    own = parameters(network)
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

    It knows a prompt by what cross-attention receives. What else the base takes from one (SDXL's
    pooled embedding, which no shift changes) is that of the empty prompt, for all prompts: the
    predictions differ by what a shift can change, and by nothing else.

    Attributes:
        weights: Layer name -> ``W_l (d_out, d_in)``.
        cross_attention: Names of all parameters of the cross-attentions.
        others: Names of all other parameters, but those of the time embedding and the output.
        alphas: ``(T,)``, the cumulative products of the noise schedule.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._family = family_of(pipeline)
        self._network = self._family.network
        self._layers = image_independent_layers(self._network)
        self.weights = layer_weights(self._network)
        self.cross_attention = cross_attention_parameters(self._network)
        self.others = tuple(
            name
            for name in parameters(self._network)
            if name not in self.cross_attention
            and not name.startswith(self._family.family.untouched_prefixes)
        )
        self._target: str = pipeline.scheduler.config.get("prediction_type", "epsilon")
        self.alphas = _noise_schedule(pipeline)

    def predict(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """Predicts the noise, ``(B, C, h, w)``.

        Args:
            latents: ``x_t (B, C, h, w)``.
            timesteps: ``t (B,)`` int64.
            prompt_embeds: ``e(p) (B, L, d_in)``.
        """
        predicted = self.output(latents, timesteps, prompt_embeds)
        if self._target == "epsilon":
            return predicted
        kept, noised = self._shares(timesteps)
        if self._target == "v_prediction":
            return kept * predicted + noised * latents
        return (latents - kept * predicted) / noised  # it predicts x_0

    def output(self, latents: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """What the base itself predicts, ``(B, C, h, w)``: the noise, or ``v``, or ``x_0``.

        Args:
            latents: ``x_t (B, C, h, w)``.
            timesteps: ``t (B,)`` int64.
            prompt_embeds: ``e(p) (B, L, d_in)``.
        """
        return self._family.run(latents, timesteps, self._family.inputs(prompt_embeds))

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

        Yields:
            The parameters, which start as copies of the base's.
        """
        own = parameters(self._network)
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
        mask = self._family.attended(prompt_embeds)
        unseen = None if mask is None else ~mask[:, None, None, :]
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
                scores = q @ k.transpose(-1, -2) * scale
                if unseen is not None:
                    scores = scores.masked_fill(unseen, -torch.inf)
                maps.append(scores.softmax(dim=-1))

            return add

        handles = []
        for name, module in self._network.named_modules():
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
        kept, noised = self._shares(timesteps)
        return kept * latents + noised * noise

    def _shares(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """How much of image and of noise there is at some timesteps."""
        alpha = self.alphas[timesteps][:, None, None, None]
        return alpha.sqrt(), (1 - alpha).sqrt()


def _noise_schedule(pipeline: DiffusionPipeline) -> Tensor:
    """``(T,)``, the cumulative products of the noise schedule.

    Raises:
        IncompatibleError: It is not one of diffusion, but of flow matching or another kind.
    """
    alphas = getattr(pipeline.scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise IncompatibleError(
            f"Noise is added here by the schedule of a diffusion model, and "
            f"{type(pipeline.scheduler).__name__} has none. Use a base with a scheduler such as "
            "DDIMScheduler."
        )
    return alphas


@torch.no_grad()
def noise_difference(
    pipeline: DiffusionPipeline,
    weights: Mapping[str, Tensor],
    prompt_embeds: Tensor,
    seed: int = 0,
    timesteps: tuple[int, ...] = (900, 500, 100),
) -> Tensor:
    """How far changed weights move the noise predictions of prompts.

    A prompt is what cross-attention receives of it, as in :class:`Denoiser`.

    Args:
        weights: The changed weights.
        prompt_embeds: ``(n, L, d_in)``.
        seed: Of the latents, the same for all prompts.
        timesteps: At which predictions are compared.

    Returns:
        ``(n,)``: the largest ``|changed - base| / |base|`` over the timesteps.
    """
    latents = starting_noise(pipeline, seed).expand(len(prompt_embeds), -1, -1, -1)
    denoiser = Denoiser(pipeline)

    def predict(step: int) -> Tensor:
        steps = torch.full((len(prompt_embeds),), step)
        chunks = zip(latents.split(16), steps.split(16), prompt_embeds.split(16), strict=True)
        return torch.cat([denoiser.output(*chunk) for chunk in chunks]).flatten(1)

    worst = torch.zeros(len(prompt_embeds))
    for step in timesteps:
        before = predict(step)
        with applied_weights(network_of(pipeline), weights):
            after = predict(step)
        worst = torch.maximum(worst, (after - before).norm(dim=1) / before.norm(dim=1))
    return worst
