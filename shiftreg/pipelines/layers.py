"""The image-independent layers: those whose input is the text embedding alone."""

from __future__ import annotations

from torch import Tensor, nn

from shiftreg.errors import IncompatibleError


def image_independent_layers(unet: nn.Module) -> dict[str, nn.Linear]:
    """Finds the key and value projections of all cross-attentions, by structure.

    Their input is the text embedding, whatever the picture: a change that vanishes on a prompt's
    embedding leaves that prompt alone at every timestep (SRS-ME, weight decoupling).

    Args:
        unet: A diffusers UNet.

    Returns:
        Module name -> linear layer ``(d_in -> d_out)``, sorted by name.

    Raises:
        IncompatibleError: The model has no such layers.
    """
    layers = {
        f"{name}.{projection}": getattr(module, projection)
        for name, module in unet.named_modules()
        if getattr(module, "is_cross_attention", False)
        for projection in ("to_k", "to_v")
    }
    if not layers:
        raise IncompatibleError(
            f"{type(unet).__name__} has no cross-attention over text embeddings, so no shift can "
            "be separable in it. Use a base such as Stable Diffusion 1.x."
        )
    return dict(sorted(layers.items()))


def parameters(unet: nn.Module) -> dict[str, nn.Parameter]:
    """All parameters under the names that shifts give them: a weight by its module."""
    return {name.removesuffix(".weight"): p for name, p in unet.named_parameters()}


def cross_attention_parameters(unet: nn.Module) -> tuple[str, ...]:
    """Names of all parameters of the cross-attentions, sorted."""
    modules = {layer.rpartition(".")[0] for layer in image_independent_layers(unet)}
    return tuple(sorted(n for n in parameters(unet) if any(n.startswith(f"{m}.") for m in modules)))


def layer_weights(unet: nn.Module) -> dict[str, Tensor]:
    """The weights ``W_l (d_out, d_in)`` of the image-independent layers."""
    return {name: layer.weight.detach() for name, layer in image_independent_layers(unet).items()}
