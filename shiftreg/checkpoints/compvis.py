"""The names that single-file checkpoints (CompVis's) give to a UNet's and an autoencoder's tensors.

Everything follows from the structure in the configuration, so that a UNet of any depth maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shiftreg.errors import InvalidInputError

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

UNET_BLOCK_TYPES = {
    "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D",
}  # fmt: skip
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
# What XL adds to the time: size and crop of the image, and the prompt as one vector.
UNET_ADDED = {
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    # Files from before diffusers 0.14, among them SD 1.4's, call the same layers so.
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}
VAE_ENDS = {
    "encoder.conv_in": "encoder.conv_in",
    "encoder.conv_norm_out": "encoder.norm_out",
    "encoder.conv_out": "encoder.conv_out",
    "decoder.conv_in": "decoder.conv_in",
    "decoder.conv_norm_out": "decoder.norm_out",
    "decoder.conv_out": "decoder.conv_out",
    "quant_conv": "quant_conv",
    "post_quant_conv": "post_quant_conv",
}


def unet_key(name: str, config: Mapping[str, Any]) -> str:
    """The CompVis name of one UNet tensor, without ``model.diffusion_model.``.

    Raises:
        InvalidInputError: There is none.
    """
    layers = config["layers_per_block"]
    types = (*config["down_block_types"], *config["up_block_types"])
    if not isinstance(layers, int) or not set(types) <= UNET_BLOCK_TYPES:
        raise InvalidInputError(
            f"Single-file checkpoints hold UNets of {sorted(UNET_BLOCK_TYPES)} with one number of "
            f"layers a block; this one has {types} with {layers}. Export a folder instead."
        )
    module, _, parameter = name.rpartition(".")
    if module in UNET_ENDS:
        return f"{UNET_ENDS[module]}.{parameter}"
    if module in UNET_ADDED and config.get("addition_embed_type") == "text_time":
        return f"{UNET_ADDED[module]}.{parameter}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name):
        kind, index, rest = found[1], int(found[2]), found[3]
        if kind == "resnets":
            return f"middle_block.{2 * index}.{_replace_head(rest, UNET_RESNET, name)}"
        return f"middle_block.{2 * index + 1}.{rest}"
    return _unet_block_key(name, config)


def _unet_block_key(name: str, config: Mapping[str, Any]) -> str:
    """The same for a tensor on the way down or up."""
    found = re.fullmatch(
        r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
    )
    if not found:
        raise _no_such_name(name)
    side, block, kind, index, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    layers, parameter = config["layers_per_block"], rest.rpartition(".")[2]
    # A block takes one entry a layer, and one more: on the way down for its downsampler, on the
    # way up for one more layer. conv_in comes before them all.
    first = block * (layers + 1) + (1 if side == "down" else 0)
    prefix = "input_blocks" if side == "down" else "output_blocks"
    if kind == "resnets":
        return f"{prefix}.{first + index}.0.{_replace_head(rest, UNET_RESNET, name)}"
    if kind == "attentions":
        return f"{prefix}.{first + index}.1.{rest}"
    if kind == "downsamplers":
        return f"{prefix}.{first + layers}.0.op.{parameter}"
    # The upsampler comes last in its entry: after a resnet, and an attention if there is one.
    place = 2 if config["up_block_types"][block].startswith("CrossAttn") else 1
    return f"{prefix}.{first + layers}.{place}.conv.{parameter}"


def vae_key(name: str, config: Mapping[str, Any]) -> str:
    """The CompVis name of one autoencoder tensor, without ``first_stage_model.``.

    Raises:
        InvalidInputError: There is none.
    """
    module, _, parameter = name.rpartition(".")
    if module in VAE_ENDS:
        return f"{VAE_ENDS[module]}.{parameter}"
    if found := re.fullmatch(
        r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name
    ):
        side, kind, index, rest = found[1], found[2], int(found[3]) + 1, found[4]
        if kind == "resnets":
            return f"{side}.mid.block_{index}.{_replace_head(rest, VAE_RESNET, name)}"
        return f"{side}.mid.attn_{index}.{_replace_head(rest, VAE_ATTENTION, name)}"
    found = re.fullmatch(
        r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)"
        r"\.(\d+)\.(.+)",
        name,
    )
    if not found:
        raise _no_such_name(name)
    side, block, kind, index, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    # CompVis counts both ways from the full resolution, diffusers in the order of computation.
    level = block if side == "encoder" else len(config["up_block_types"]) - 1 - block
    prefix = f"{side}.{'down' if side == 'encoder' else 'up'}.{level}"
    if kind == "resnets":
        return f"{prefix}.block.{index}.{_replace_head(rest, VAE_RESNET, name)}"
    sampler = "downsample" if kind == "downsamplers" else "upsample"
    return f"{prefix}.{sampler}.conv.{parameter}"


def _replace_head(rest: str, names: Mapping[str, str], name: str) -> str:
    """Translates ``module.parameter`` by its module."""
    module, _, parameter = rest.rpartition(".")
    if module not in names:
        raise _no_such_name(name)
    return f"{names[module]}.{parameter}"


def _no_such_name(name: str) -> InvalidInputError:
    return InvalidInputError(
        f"Single-file checkpoints have no place for the tensor '{name}'. Export a folder instead."
    )
