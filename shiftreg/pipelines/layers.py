"""The image-independent layers: those whose input is the text embedding alone.

They are found by structure, and checked by running the network: what counts is what a layer sees.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shiftreg.errors import IncompatibleError
from shiftreg.pipelines.families import family_of, joint_attention_error
from shiftreg.pipelines.prompts import encode_prompts

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def image_independent_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Finds the key and value projections of all cross-attentions, by structure.

    Their input is the text embedding, whatever the image: a change that vanishes on a prompt's
    embedding leaves that prompt alone at every timestep (SRS-ME, weight decoupling).

    Returns:
        Module name -> linear layer ``(d_in -> d_out)``, sorted by name.

    Raises:
        IncompatibleError: The model has no such layers, or text and image attend jointly.
    """
    if any(getattr(m, "add_k_proj", None) is not None for m in network.modules()):
        raise joint_attention_error(type(network).__name__)
    layers = {
        f"{name}.{projection}": getattr(module, projection)
        for name, module in network.named_modules()
        if getattr(module, "is_cross_attention", False)
        for projection in ("to_k", "to_v")
    }
    if not layers:
        raise IncompatibleError(
            f"{type(network).__name__} has no cross-attention over text embeddings, so no shift "
            "can be separable in it. Use a base such as Stable Diffusion 1.x."
        )
    widths = sorted({layer.in_features for layer in layers.values()})
    if len(widths) > 1:
        raise IncompatibleError(
            f"One text embedding is read by all cross-attentions, and those of "
            f"{type(network).__name__} read widths {', '.join(map(str, widths))}. Use a base such "
            "as Stable Diffusion 1.x."
        )
    return dict(sorted(layers.items()))


def parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters under the names that shifts give them: a weight by its module."""
    return {name.removesuffix(".weight"): p for name, p in network.named_parameters()}


def cross_attention_parameters(network: nn.Module) -> tuple[str, ...]:
    """Names of all parameters of the cross-attentions, sorted."""
    modules = {layer.rpartition(".")[0] for layer in image_independent_layers(network)}
    return tuple(
        sorted(n for n in parameters(network) if any(n.startswith(f"{m}.") for m in modules))
    )


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights ``W_l (d_out, d_in)`` of the image-independent layers."""
    return {
        name: layer.weight.detach() for name, layer in image_independent_layers(network).items()
    }


_LARGEST_SIDE = 16  # of the latents: what a layer sees does not depend on the image's size
# Of several words: attention over a single one does not depend on who attends.
_PROMPTS = ("a painting", "two dogs")


def text_only_layers(pipeline: DiffusionPipeline) -> frozenset[str]:
    """Finds the linear layers whose input follows from the prompt's embedding, and from it alone.

    The network runs with other latents at another time, and with another prompt: the input of such
    a layer stays the same, bit for bit, in the first case, and does not in the second.

    Returns:
        Names of modules.
    """
    first = _inputs(pipeline, _PROMPTS[0], seed=0, timestep=900)
    same_prompt = _inputs(pipeline, _PROMPTS[0], seed=1, timestep=100)
    other_prompt = _inputs(pipeline, _PROMPTS[1], seed=0, timestep=900)
    return frozenset(
        name
        for name, seen in first.items()
        if torch.equal(seen, same_prompt[name]) and not torch.equal(seen, other_prompt[name])
    )


def check_image_independence(pipeline: DiffusionPipeline) -> None:
    """Refuses a base in which a layer that shifts would change sees more than the prompt.

    Raises:
        IncompatibleError: Names the first such layer.
    """
    layers = image_independent_layers(family_of(pipeline).network)
    if seeing := sorted(layers.keys() - text_only_layers(pipeline)):
        raise IncompatibleError(
            f"A shift is separable in layers that see the prompt alone, and '{seeing[0]}' of this "
            f"base also sees the image or the time. Use a base whose cross-attentions read the "
            "text embedding as it is."
        )


@torch.no_grad()
def _inputs(
    pipeline: DiffusionPipeline, prompt: str, seed: int, timestep: int
) -> dict[str, Tensor]:
    """What each linear layer gets in one run."""
    family = family_of(pipeline)
    side = family.network.config.sample_size
    side = min(_LARGEST_SIDE, *([side] if isinstance(side, int) else side))
    generator = torch.Generator().manual_seed(seed)
    shape = (1, family.network.config.in_channels, side, side)
    conditions = family.inputs(encode_prompts(pipeline, [prompt]))
    seen: dict[str, Tensor] = {}

    def keep(name: str, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].detach().clone()

    with ExitStack() as hooks:
        for name, module in family.network.named_modules():
            if isinstance(module, nn.Linear):
                hooks.enter_context(module.register_forward_pre_hook(partial(keep, name)))
        family.run(torch.randn(shape, generator=generator), torch.tensor([timestep]), conditions)
    return seen
