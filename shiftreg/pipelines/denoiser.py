"""Noise predictions of a base, with and without changed weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from shiftreg.erasers.model import Trained
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
        """What the base itself predicts: the noise, or ``v``, or ``x_0``; see :meth:`predict`."""
        return self._family.run(latents, timesteps, self._family.inputs(prompt_embeds))

    @contextmanager
    def shifted(self, support: Tensor, factors: Mapping[str, Tensor]) -> Iterator[None]:
        """Adds ``x @ Q.T @ A_l.T`` to the layers for a block, differentiably in ``A_l``.

        Args:
            support: ``Q (q, d_in)``.
            factors: Layer name -> ``A_l (d_out, q)``.
        """

        def add(factor: Tensor, _module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output + (inputs[0] @ support.T) @ factor.T

        with ExitStack() as hooks:
            for name, factor in factors.items():
                hook = self._layers[name].register_forward_hook(partial(add, factor))
                hooks.enter_context(hook)
            yield

    @contextmanager
    def trainable(self, names: Iterable[str]) -> Iterator[Trained]:
        """Lets copies of parameters be trained for a block; the base's return bit for bit."""
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
        """The attention maps of all cross-attentions, differentiably; see :meth:`predict`.

        Returns:
            One ``(B, heads, pixels, L)`` a cross-attention; each sums to 1 over the tokens.
        """
        mask = self._family.attended(prompt_embeds)
        unseen = None if mask is None else ~mask[:, None, None, :]
        maps: list[Tensor] = []
        queries: dict[nn.Module, Tensor] = {}

        def keep_query(attention: Any, _module: nn.Module, _inputs: Any, query: Tensor) -> None:
            queries[attention] = query

        def add_map(attention: Any, _module: nn.Module, _inputs: Any, key: Tensor) -> None:
            q, k = (
                t.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                for t in (queries[attention], key)
            )
            scores = q @ k.transpose(-1, -2) * attention.scale
            if unseen is not None:
                scores = scores.masked_fill(unseen, -torch.inf)
            maps.append(scores.softmax(dim=-1))

        with ExitStack() as hooks:
            for module in self._network.modules():
                if getattr(module, "is_cross_attention", False):
                    for layer, hook in ((module.to_q, keep_query), (module.to_k, add_map)):
                        hooks.enter_context(layer.register_forward_hook(partial(hook, module)))
            self.predict(latents, timesteps, prompt_embeds)
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
    """``(T,)``; refuses schedules that are not of diffusion, such as of flow matching."""
    alphas = getattr(pipeline.scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise IncompatibleError(
            f"Noise is added here by the schedule of a diffusion model, and "
            f"{type(pipeline.scheduler).__name__} has none. Use a base with a scheduler such as "
            "DDIMScheduler."
        )
    return alphas


# Of 1000: what must not change is compared at all times; what must be gone, where images begin to
# become one thing or another, and pure noise is much like what the network sees then.
_ALL_TIMES, _EARLY = (900, 500, 100), (900, 800, 700)


@torch.no_grad()
def noise_difference(
    pipeline: DiffusionPipeline, weights: Mapping[str, Tensor], prompt_embeds: Tensor
) -> Tensor:
    """How far changed weights move the noise predictions of prompts.

    A prompt is what cross-attention receives of it, as in :class:`Denoiser`.

    Args:
        weights: The changed weights.
        prompt_embeds: ``(n, L, d_in)``.

    Returns:
        ``(n,)``: the largest ``|changed - base| / |base|`` over the timesteps.
    """
    latents = starting_noise(pipeline, seed=0).expand(len(prompt_embeds), -1, -1, -1)
    before = _predictions(pipeline, latents, prompt_embeds, _ALL_TIMES)
    with applied_weights(network_of(pipeline), weights):
        after = _predictions(pipeline, latents, prompt_embeds, _ALL_TIMES)
    return ((after - before).norm(dim=2) / before.norm(dim=2)).amax(dim=0)


@torch.no_grad()
def noise_left(
    pipeline: DiffusionPipeline,
    weights: Mapping[str, Tensor],
    prompt_embeds: Tensor,
    anchor_embeds: Tensor,
) -> Tensor:
    """How much changed weights leave of what tells prompts from their anchors: see ``remaining``.

    Args:
        weights: The changed weights.
        prompt_embeds: ``e(c) (n, L, d_in)``, each of which meets a noise of its own.
        anchor_embeds: ``e(a) (n, L, d_in)``, what each prompt should mean.

    Returns:
        ``(n,)``: the share of ``base(c) - base(a)`` in ``changed(c) - base(a)``, as the mean over
        the timesteps; 1 where nothing happened.
    """
    latents = starting_noise(pipeline, seed=0, count=len(prompt_embeds))
    before = _predictions(pipeline, latents, prompt_embeds, _EARLY)
    anchors = _predictions(pipeline, latents, anchor_embeds, _EARLY)
    with applied_weights(network_of(pipeline), weights):
        after = _predictions(pipeline, latents, prompt_embeds, _EARLY)
    whole = before - anchors
    return (((after - anchors) * whole).sum(dim=2) / whole.square().sum(dim=2)).mean(dim=0)


def _predictions(
    pipeline: DiffusionPipeline, latents: Tensor, prompt_embeds: Tensor, timesteps: Sequence[int]
) -> Tensor:
    """What the base predicts of latents ``(n, C, h, w)``, as ``(timesteps, n, C h w)``."""
    denoiser = Denoiser(pipeline)

    def predict(step: int) -> Tensor:
        chunks = zip(latents.split(16), prompt_embeds.split(16), strict=True)
        return torch.cat([denoiser.output(x, torch.full((len(x),), step), e) for x, e in chunks])

    return torch.stack([predict(step).flatten(1) for step in timesteps])
