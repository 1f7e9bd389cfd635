"""Which model a file was probably made for: names and widths tell it, so that errors can."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

NAMES = (
    (
        "Stable Diffusion XL",
        r"lora_te2_|text_encoder_2\.|conditioner\.|add_embedding|label_emb"
        r"|(attentions[._]\d+|(input|output)_blocks[._]\d+[._]1|middle_block[._]1)"
        r"[._]transformer_blocks[._][1-9]",
    ),
    ("Flux", r"(^|[._])(double_blocks|single_blocks|single_transformer_blocks)[._]"),
    ("Stable Diffusion 3", r"(^|[._])(joint_blocks[._]|transformer\.transformer_blocks\.)"),
    ("AnimateDiff", r"motion_modules[._]"),
)
CONTEXT_WIDTHS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
}
# What reads the prompt; of its tensors, those whose second dimension is the prompt's width.
CONTEXT_LAYER = re.compile(r"attn2[._](processor\.)?to_[kv](?!.*(up|lora_B)\.).*weight$")


def probable_architecture(tensors: Mapping[str, Tensor]) -> str:
    """A sentence on the model that a file was probably made for.

    Args:
        tensors: The names that the file uses -> its tensors.

    Returns:
        With a space before it, to be added to an error; empty if nothing tells.
    """
    names = "\n".join(tensors)
    known = next((name for name, mark in NAMES if re.search(mark, names, re.MULTILINE)), None)
    if known is None:
        widths = {
            tensor.shape[1]
            for name, tensor in tensors.items()
            if tensor.ndim >= 2 and CONTEXT_LAYER.search(name)
        }
        known = next((CONTEXT_WIDTHS[width] for width in widths if width in CONTEXT_WIDTHS), None)
    return f" The file was probably made for {known}." if known else ""
