"""A change of a UNet's weights, whatever file it came from, and the model that was made for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.families import KNOWN_MODELS

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
)
# What reads the prompt; of its tensors, those whose second dimension is the prompt's width.
CONTEXT_LAYER = re.compile(r"attn2[._](processor\.)?to_[kv](?!.*(up|lora_B)\.).*weight$")


@dataclass(frozen=True)
class WeightChange:
    """What a file changes.

    Attributes:
        form: "lora, diffusers/PEFT", "lora, kohya", "partial state dict" or "checkpoint".
        deltas: UNet parameter, such as ``conv_in.bias`` -> what is added to it, float32.
        left_out: Sentences on what the file holds and the deltas do not.
        details: JSON values, such as ranks and dtypes.
        elsewhere: Tensors beside the UNet's, by the file's names, that are not the base's: of each
            part the first; of a LoRA all modules that it changes there.
        values: UNet parameter -> the file's value, of the parameter's shape, whether it changed or
            not; none of a LoRA, which holds differences.
    """

    form: str
    deltas: dict[str, Tensor]
    left_out: tuple[str, ...]
    details: dict[str, Any]
    elsewhere: tuple[str, ...] = ()
    values: Mapping[str, Tensor] = field(default_factory=dict)


def check_weights(name: str, tensor: Tensor) -> None:
    """Refuses what cannot be computed with.

    Raises:
        InvalidInputError: The tensor holds integers, or a value is NaN or infinite.
    """
    if tensor.dtype not in DTYPES:
        raise InvalidInputError(
            f"Weights are floating-point numbers, and '{name}' holds {dtype_name(tensor)}. "
            "Convert the file to float16 or float32 with the tool that made it."
        )
    # float8 has no isfinite of its own.
    if not torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all():
        raise InvalidInputError(
            f"Weights are finite numbers, and '{name}' holds NaN or infinity. "
            "The file is damaged, or its training diverged: fetch or make it again."
        )


def fit_shape(tensor: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Gives a tensor a parameter's shape.

    A linear layer (c_out, c_in) and a 1 x 1 convolution (c_out, c_in, 1, 1) are the same.

    Returns:
        The tensor in that shape; None if it is another one.
    """
    return tensor.reshape(tuple(shape)) if _linear(tensor.shape) == _linear(shape) else None


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape are the same in the less precise of their dtypes."""
    return torch.equal(one.to(other.dtype), other) or torch.equal(other.to(one.dtype), one)


def holds(one: torch.dtype, other: torch.dtype) -> bool:
    """Whether a floating-point dtype holds every value of another one, but the tiniest."""
    wide, narrow = torch.finfo(one), torch.finfo(other)
    return wide.eps <= narrow.eps and wide.max >= narrow.max


def single_precision(name: str, delta: Tensor) -> Tensor | None:
    """Rounds a delta once.

    Returns:
        float32; None if nothing of it is left.

    Raises:
        InvalidInputError: A value is beyond float32.
    """
    result = delta.to(torch.float32)
    if not torch.isfinite(result).all():
        raise InvalidInputError(
            f"The change of '{name}' leaves the range of float32. "
            "The file is damaged, or its training diverged: fetch or make it again."
        )
    return result.contiguous() if result.any() else None


def dtype_name(tensor: Tensor) -> str:
    """Such as "float16"."""
    return str(tensor.dtype).removeprefix("torch.")


def dtype_names(tensors: Mapping[str, Tensor]) -> str:
    """The dtypes of tensors, such as "float16" or "float16, float32"."""
    return ", ".join(sorted({dtype_name(tensor) for tensor in tensors.values()}))


def shape_text(tensor: Tensor) -> str:
    """Such as "(320, 768)"."""
    return str(tuple(tensor.shape))


def _linear(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[:2]) if len(shape) == 4 and tuple(shape[2:]) == (1, 1) else tuple(shape)


def probable_architecture(tensors: Mapping[str, Tensor]) -> str:
    """A sentence on the model that a file was probably made for.

    Returns:
        With a space before it, to be added to an error; empty if nothing tells.
    """
    names = "\n".join(tensors)
    widths = {
        tensor.shape[1]
        for name, tensor in tensors.items()
        if tensor.ndim >= 2 and CONTEXT_LAYER.search(name)
    }
    known = [m for m in KNOWN_MODELS if m.file_mark and re.search(m.file_mark, names, re.MULTILINE)]
    known = known or [model for model in KNOWN_MODELS if model.context_width in widths]
    return f" The file was probably made for {known[0].name}." if known else ""
