"""The names that single-file checkpoints give to text encoders: CLIP's own, and OpenCLIP's.

Stable Diffusion 1.x has OpenAI's CLIP, saved with the names of transformers. 2.x, and the second
encoder of XL, are OpenCLIP's, which keeps query, key and value of an attention in one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftreg.errors import InvalidInputError

CLIP_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."
XL_CLIP_PREFIX = "conditioner.embedders.0.transformer."
XL_OPEN_CLIP_PREFIX = "conditioner.embedders.1.model."

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


@dataclass(frozen=True)
class Place:
    """Where a tensor of diffusers lies in a single file.

    Attributes:
        key: The name of the tensor there.
        part: Which of its equal parts along the first dimension.
        parts: How many there are.
        turned: Whether it is transposed there.
    """

    key: str
    part: int = 0
    parts: int = 1
    turned: bool = False


def text_prefix(component: str, config: Mapping[str, Any], components: frozenset[str]) -> str:
    """What the names of a text encoder begin with.

    Args:
        component: "text_encoder" or "text_encoder_2".
        config: Its ``config.json``.
        components: All parts of the pipeline.
    """
    if component == "text_encoder_2":
        return XL_OPEN_CLIP_PREFIX
    if "text_encoder_2" in components:
        return XL_CLIP_PREFIX
    # OpenAI's CLIP was trained with an approximation of the function that OpenCLIP's has.
    return OPEN_CLIP_PREFIX if config.get("hidden_act") == "gelu" else CLIP_PREFIX


def text_place(name: str, prefix: str) -> Place | None:
    """The place of one tensor.

    Args:
        name: In diffusers, with or without ``text_model.``: since transformers 5.6
            ``CLIPTextModel`` saves without it what single files have always had.
        prefix: See :func:`text_prefix`.

    Returns:
        The place; None for a constant that OpenCLIP does not keep.

    Raises:
        InvalidInputError: There is none.
    """
    name = long_name(name)
    if prefix not in (OPEN_CLIP_PREFIX, XL_OPEN_CLIP_PREFIX):
        return Place(prefix + name)
    if name in OPEN_CLIP_ENDS:
        return Place(prefix + OPEN_CLIP_ENDS[name])
    if name == "text_projection.weight":
        return Place(f"{prefix}text_projection", turned=True)
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


def is_unused(key: str, config: Mapping[str, Any]) -> bool:
    """Whether a single file's tensor of an OpenCLIP encoder is one that pipelines do without.

    Stable Diffusion 2.x reads the last layer but one, and no projection; its files hold both.

    Args:
        key: The name in the file.
        config: The ``config.json`` of the text encoder in diffusers.
    """
    if key == f"{OPEN_CLIP_PREFIX}text_projection":
        return True
    found = re.match(rf"{re.escape(OPEN_CLIP_PREFIX)}transformer\.resblocks\.(\d+)\.", key)
    layers = config.get("num_hidden_layers")
    return found is not None and isinstance(layers, int) and int(found[1]) >= layers
