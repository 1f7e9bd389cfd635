"""A change of a UNet's weights, whatever file it came from, and the model that was made for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shiftreg.checkpoints.tensor_files import DTYPE_NAMES
from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.families import KNOWN_MODELS

DIGEST_KEY = "shiftreg.base_sha256"
VERSION_KEY = "ss_base_model_version"

# What reads the prompt; of its tensors, those whose second dimension is the prompt's width.
CONTEXT_LAYER = re.compile(r"attn2[._](processor\.)?to_[kv](?!.*(up|lora_B)\.).*weight$")


@dataclass(frozen=True)
class StatedBase:
    """What the header of a safetensors file says of the base; texts are empty where it is silent.

    Attributes:
        digest: Of the base, in files that shiftreg wrote.
        kohya_version: kohya's name of the base's version, such as "sdxl_base_v1-0".
    """

    digest: str = ""
    kohya_version: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> StatedBase:
        """Reads it from a header."""
        return cls(metadata.get(DIGEST_KEY, ""), metadata.get(VERSION_KEY, ""))

    def check(self, source: str, base: str, digest: str, kohya_version: str) -> None:
        """Refuses a file that says it was made for another base.

        Raises:
            IncompatibleError: The digest is another's, or the version is of another model.
        """
        if self.digest and self.digest != digest:
            raise IncompatibleError(
                f"{source} was made by shiftreg for base {self.digest[:12]}, and '{base}' is "
                f"{digest[:12]}. Choose its base with --base, or erase the concept on this one: "
                "shiftreg erase"
            )
        made_for, own = _known_model(self.kohya_version), _known_model(kohya_version)
        if made_for and own and made_for != own:
            raise IncompatibleError(
                f"{source} says that it was made for {made_for} ({VERSION_KEY} is "
                f"'{self.kohya_version}'), and '{base}' is {own}. Choose its base with --base, or "
                "give a file that was made for this one."
            )


def _known_model(version: str) -> str:
    """The model that a version is of; empty if it is unknown, such as one of other tools."""
    known = (m for m in KNOWN_MODELS if m.kohya_prefix)
    return next((m.name for m in known if version.lower().startswith(m.kohya_prefix)), "")


@dataclass(frozen=True)
class ComparedBase:
    """A base that files are compared with.

    Attributes:
        compvis: diffusers' name of each parameter -> CompVis's, where there is one.
    """

    folder: Path
    unet: Mapping[str, Tensor]
    compvis: Mapping[str, str]


@dataclass(frozen=True)
class WeightChange:
    """What a file changes in a base's UNet.

    Attributes:
        form: "lora, diffusers/PEFT", "lora, kohya", "partial state dict" or "checkpoint".
        deltas: UNet parameter, such as ``conv_in.bias`` -> what is added to it, float32, of the
            parameter's shape; those that are zero are left out.
        left_out: Sentences on what the file holds and the deltas do not.
        details: JSON values, such as ranks, alphas, dtype and number of keys.
        elsewhere: Tensors beside the UNet's, by the file's names, that are not the base's: of each
            part the first; of a LoRA all modules that it changes there.
        values: UNet parameter -> the file's value, of the parameter's shape, whether it changed or
            not; none of a LoRA, which holds differences.
        digest: SHA-256 of the file, or over the files of the folder; "" if it was not asked for.
        stated_base: Which base the file says it was made for.
    """

    form: str
    deltas: dict[str, Tensor]
    left_out: tuple[str, ...]
    details: dict[str, Any]
    elsewhere: tuple[str, ...] = ()
    values: Mapping[str, Tensor] = field(default_factory=dict)
    digest: str = ""
    stated_base: StatedBase = StatedBase()


def check_weights(name: str, tensor: Tensor) -> None:
    """Refuses what cannot be computed with.

    Raises:
        InvalidInputError: The tensor holds integers, or a value is NaN or infinite.
    """
    if tensor.dtype not in DTYPE_NAMES or not tensor.is_floating_point():
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
