"""Reading checkpoints back, and comparing them with what they should hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import weight_files
from shiftreg.checkpoints.export import RECIPE_KEY, export_format
from shiftreg.checkpoints.files import load_pickle_checkpoint
from shiftreg.checkpoints.merged import single_file_state
from shiftreg.checkpoints.tensor_files import read_safetensors
from shiftreg.errors import IntegrityError, NotFoundError


@dataclass(frozen=True)
class Comparison:
    """How a checkpoint differs from what it should hold; names are CompVis's.

    Attributes:
        equal: Whether every tensor is there and the same bit for bit.
        differing: Tensors of other dtype, shape or values.
        missing: Tensors that the checkpoint lacks.
        extra: Tensors that it should not have.
        largest_difference: Of any two values; infinite where shapes differ or one is not a number.
    """

    equal: bool
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    largest_difference: float


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint under CompVis names.

    Args:
        path: A ``.ckpt`` or ``.safetensors`` file, or a diffusers folder.

    Raises:
        NotFoundError: It does not exist.
        InvalidInputError: It is of another form, or its parts have no CompVis names.
        IntegrityError: It is damaged, or holds something else than tensors.
    """
    form = _existing_format(path)
    if form == "folder":
        return single_file_state(path, {})
    if form == "safetensors":
        return read_safetensors(path)[0]
    content = load_pickle_checkpoint(path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise IntegrityError(
            f"'{path}' holds something else than tensors in its state dict. "
            "Use a checkpoint of a diffusion model."
        )
    return dict(state)


def read_recipe_digest(path: Path) -> str | None:
    """SHA-256 of the recipe that a checkpoint was made by.

    Args:
        path: A ``.ckpt`` or ``.safetensors`` file, or a diffusers folder.

    Returns:
        Hexadecimal digits; None if it holds none, as in a folder into which no shift was
        composed: its files are the base's.

    Raises:
        NotFoundError: It does not exist.
        InvalidInputError: It is of another form.
        IntegrityError: It is damaged.
    """
    form = _existing_format(path)
    if form == "ckpt":
        found = load_pickle_checkpoint(path).get(RECIPE_KEY)
        return found if isinstance(found, str) else None
    # Of shards, only those that hold a merged layer were rewritten.
    files = weight_files(path / "unet") if form == "folder" else (path,)
    digests = [read_safetensors(file)[1].get(RECIPE_KEY) for file in files]
    return next((digest for digest in digests if digest), None)


def compare_checkpoint(
    path: Path,
    base_folder: Path,
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
) -> Comparison:
    """Compares a checkpoint with base and merged layers, bit for bit.

    Args:
        path: A ``.ckpt`` or ``.safetensors`` file, or a diffusers folder.
        base_folder: The base.
        layers: As given to the export.
        dtype: As given to the export.

    Raises:
        NotFoundError: Checkpoint or base does not exist.
        InvalidInputError: One of them is of another form.
        IncompatibleError: The layers belong to another base.
        IntegrityError: A file is damaged.
    """
    actual = read_checkpoint(path)
    expected = single_file_state(base_folder, layers, dtype)
    differing = {
        name: _largest_difference(actual[name], tensor)
        for name, tensor in expected.items()
        if name in actual and not _same_bits(actual[name], tensor)
    }
    missing = tuple(sorted(expected.keys() - actual.keys()))
    extra = tuple(sorted(actual.keys() - expected.keys()))
    return Comparison(
        equal=not (differing or missing or extra),
        differing=tuple(sorted(differing)),
        missing=missing,
        extra=extra,
        largest_difference=max(differing.values(), default=0.0),
    )


def _existing_format(path: Path) -> str:
    if not path.exists():
        raise NotFoundError(f"There is no checkpoint '{path}'. Check the path.")
    return "folder" if path.is_dir() else export_format(path)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _largest_difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return float("inf")
    if one.numel() == 0:
        return 0.0
    difference = float((one.double() - other.double()).abs().max())
    return float("inf") if math.isnan(difference) else difference
