"""The image-independent layers: those whose input is the text embedding alone."""

from __future__ import annotations

from torch import Tensor, nn

from shiftreg.errors import IncompatibleError


def image_independent_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Finds the key and value projections of all cross-attentions, by structure.

    Their input is the text embedding, whatever the image: a change that vanishes on a prompt's
    embedding leaves that prompt alone at every timestep (SRS-ME, weight decoupling).

    Args:
        network: A UNet or transformer of diffusers.

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


def joint_attention_error(network: str) -> IncompatibleError:
    """Why models of one stream for text and image are refused (SD 3, FLUX and their like).

    Args:
        network: Name of its class.
    """
    return IncompatibleError(
        f"{network} lets text and image attend to each other (joint attention): from the second "
        "block on, the keys and values of a prompt depend on the image and the time, so no "
        "change of them leaves a prompt exactly as it was. Use a base with cross-attention (Stable "
        "Diffusion 1.x, 2.x, XL, PixArt); docs/families.md says what would be possible here."
    )


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
