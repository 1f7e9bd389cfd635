"""The names that single-file checkpoints (CompVis's) give to the tensors of a pipeline.

Those of UNet and autoencoder follow from the structure in the configuration, so that a UNet of any
depth maps. Of the text encoders, Stable Diffusion 1.x has OpenAI's CLIP, saved with the names of
transformers; 2.x's, and XL's second one, are OpenCLIP's, which keeps query, key and value of an
attention in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftreg.errors import InvalidInputError
from shiftreg.families import ENCODERS, Encoder

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
UNET_ADDED = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_RESNET = {name: name for name in ("norm1", "conv1", "norm2", "conv2")}
VAE_RESNET["conv_shortcut"] = "nin_shortcut"
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
VAE_ENDS = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"} | {
    f"{side}.{name}": f"{side}.{key}"
    for side in ("encoder", "decoder")
    for name, key in (
        ("conv_in", "conv_in"), ("conv_norm_out", "norm_out"), ("conv_out", "conv_out"),
    )
}  # fmt: skip
OPEN_CLIP_PREFIXES = tuple(filter(None, (encoder.open_clip_prefix for encoder in ENCODERS)))
OPEN_CLIP_ENDS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
LAYER = re.compile(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
# A constant, 0, 1, 2, ...: old versions of transformers saved it.
POSITIONS = "embeddings.position_ids"


def unet_key(name: str, config: Mapping[str, Any]) -> str:
    """The CompVis name of one UNet tensor, without ``model.diffusion_model.``.

    Raises:
        InvalidInputError: Such files have no name for it.
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
        InvalidInputError: Such files have no name for it.
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


@dataclass(frozen=True)
class Place:
    """Where a tensor of diffusers lies in a single file.

    Attributes:
        part: Which of its equal parts along the first dimension.
        transposed: Whether it is there.
    """

    key: str
    part: int = 0
    parts: int = 1
    transposed: bool = False


def text_prefix(encoder: Encoder, config: Mapping[str, Any]) -> str:
    """What the names of a text encoder begin with."""
    if encoder.clip_prefix and encoder.open_clip_prefix:
        # OpenAI's CLIP was trained with an approximation of the function that OpenCLIP's has.
        is_open_clip = config.get("hidden_act") == "gelu"
        return encoder.open_clip_prefix if is_open_clip else encoder.clip_prefix
    return encoder.clip_prefix or encoder.open_clip_prefix


def text_place(name: str, prefix: str) -> Place | None:
    """The place of one tensor.

    Args:
        name: In diffusers, with or without ``text_model.``: since transformers 5.6
            ``CLIPTextModel`` saves without it what single files have always had.

    Returns:
        The place; None for a constant that OpenCLIP does not keep.

    Raises:
        InvalidInputError: Such files have no name for it.
    """
    name = long_name(name)
    if prefix not in OPEN_CLIP_PREFIXES:
        return Place(prefix + name)
    if name in OPEN_CLIP_ENDS:
        return Place(prefix + OPEN_CLIP_ENDS[name])
    if name == "text_projection.weight":
        return Place(f"{prefix}text_projection", transposed=True)
    if name.endswith(POSITIONS):
        return None
    if found := LAYER.fullmatch(name):
        layer, module, parameter = f"{prefix}transformer.resblocks.{found[1]}", found[2], found[3]
        if module in OPEN_CLIP_LAYER:
            return Place(f"{layer}.{OPEN_CLIP_LAYER[module]}.{parameter}")
        if attention := re.fullmatch(r"self_attn\.([qkv])_proj", module):
            return Place(f"{layer}.attn.in_proj_{parameter}", "qkv".index(attention[1]), 3)
    raise InvalidInputError(
        f"Single-file checkpoints have no place for '{name}' of a text encoder. "
        "Export a folder instead."
    )


def long_name(name: str) -> str:
    """The name of a text encoder's tensor as all files have it but those of new transformers."""
    if name.startswith(("text_model.", "text_projection.")):
        return name
    return f"text_model.{name}"


def is_unused(key: str, encoder: Encoder, config: Mapping[str, Any]) -> bool:
    """Whether a single file's tensor of an OpenCLIP encoder is one that pipelines do without.

    Stable Diffusion 2.x reads the last layer but one, and no projection; its files hold both.

    Args:
        config: The ``config.json`` of the text encoder in diffusers.
    """
    prefix = encoder.open_clip_prefix
    if encoder.is_pooled or not prefix:
        return False
    if key == f"{prefix}text_projection":
        return True
    found = re.match(rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\.", key)
    layers = config.get("num_hidden_layers")
    return found is not None and isinstance(layers, int) and int(found[1]) >= layers
