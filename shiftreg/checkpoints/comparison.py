"""Comparing checkpoints with what they should hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shiftreg.checkpoints.base_folder import (
    layer_name,
    network_folder,
    stored_component,
    weight_files,
)
from shiftreg.checkpoints.conversion import single_file_contents
from shiftreg.checkpoints.digested_file import DigestedReader
from shiftreg.checkpoints.export import RECIPE_KEY, export_format
from shiftreg.checkpoints.files import digest_of_files, visible_files
from shiftreg.checkpoints.merged import MergedTensor, check_layers, put_layers, single_file_tensors
from shiftreg.checkpoints.stored import LoadedTensor, StoredTensor, TensorSource, whole
from shiftreg.checkpoints.tensor_files import read_safetensors
from shiftreg.checkpoints.torch_file import load_pickle_checkpoint
from shiftreg.errors import NotFoundError


@dataclass(frozen=True)
class Comparison:
    """How a checkpoint differs from what it should hold.

    Names are those of the checkpoint: CompVis's in a single file, and in a folder diffusers' after
    the component's, such as ``unet.conv_in.weight``.

    Attributes:
        equal: Whether every tensor is there and the same bit for bit.
        differing: Tensors of other dtype, shape or values.
        accepted: Layers that differ, and were accepted all the same.
        largest_difference: Of any two values; infinite where shapes differ or one is not a number.
        digest: SHA-256 of the checkpoint, of the bytes that were compared: as
            ``checkpoint_digest`` gives it.
        files: The path within the folder (with "/"), or the name of the single file -> SHA-256, of
            every file, hidden ones too; empty for what is not a regular file.
    """

    equal: bool
    differing: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    largest_difference: float
    accepted: tuple[str, ...]
    digest: str
    files: Mapping[str, str]


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
    files = weight_files(network_folder(path)) if form == "folder" else (path,)
    digests = [read_safetensors(file)[1].get(RECIPE_KEY) for file in files]
    return next((digest for digest in digests if digest), None)


def compare_checkpoint(
    path: Path,
    base_folder: Path,
    layers: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    accepts: Callable[[str, Tensor], bool] | None = None,
) -> Comparison:
    """Compares a checkpoint with base and merged layers, bit for bit and a piece at a time.

    Each byte of the checkpoint is read once, for its digest and for the comparison.

    Args:
        path: A ``.ckpt`` or ``.safetensors`` file, or a diffusers folder.
        layers: As given to the export.
        dtype: As given to the export.
        accepts: Is asked for a layer that differs, and its value, whether that will do.

    Raises:
        NotFoundError: Checkpoint or base does not exist.
        InvalidInputError: One of them is of another form.
        IncompatibleError: The layers belong to another base.
        IntegrityError: A file is damaged.
    """
    if _existing_format(path) == "folder":
        actual: Mapping[str, TensorSource] = _folder_tensors(path, {})
        expected = _folder_tensors(base_folder, layers, dtype)
    else:
        actual = single_file_contents(path)
        expected = single_file_tensors(base_folder, layers, dtype)
    accepted: list[str] = []
    differing: dict[str, float] = {}

    def compare(name: str, pieces: Iterator[Tensor]) -> None:
        found, wanted = actual[name], expected[name]
        if accepts is None or not isinstance(wanted, MergedTensor):
            difference = _difference(found, pieces, wanted)
        else:
            value = whole(found, pieces)
            difference = _difference(found, LoadedTensor(value).pieces(), wanted)
            if difference is not None and accepts(layer := layer_name(wanted.name), value):
                accepted.append(layer)
                return
        if difference is not None:
            differing[name] = difference

    files = _read_once(path, {n: actual[n] for n in expected if n in actual}, compare)
    missing = tuple(sorted(expected.keys() - actual.keys()))
    extra = tuple(sorted(actual.keys() - expected.keys()))
    return Comparison(
        equal=not (accepted or differing or missing or extra),
        differing=tuple(sorted(differing)),
        missing=missing,
        extra=extra,
        largest_difference=max(differing.values(), default=0.0),
        accepted=tuple(sorted(accepted)),
        digest=_digest(path, files),
        files=files,
    )


def _digest(path: Path, files: Mapping[str, str]) -> str:
    """That of a checkpoint, from those of its files."""
    if not path.is_dir():
        return files[path.name]
    visible = (file.relative_to(path) for file in visible_files(path))
    return digest_of_files({file: files[file.as_posix()] for file in visible})


def _existing_format(path: Path) -> str:
    if not path.exists():
        raise NotFoundError(f"There is no checkpoint '{path}'. Check the path.")
    return "folder" if path.is_dir() else export_format(path)


def _folder_tensors(
    folder: Path, layers: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, TensorSource]:
    """Folder and merged layers, all that lies in safetensors files, whatever the architecture."""
    network = network_folder(folder)
    check_layers(stored_component(network), layers)
    tensors: dict[str, TensorSource] = {}
    for component in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not component.name.startswith(".") and any(component.glob("*.safetensors")):
            own = layers if component == network else {}
            put = put_layers(stored_component(component), own, dtype)
            tensors |= {f"{component.name}.{name}": tensor for name, tensor in put.items()}
    return tensors


def _read_once(
    path: Path, tensors: Mapping[str, TensorSource], take: Callable[[str, Iterator[Tensor]], None]
) -> dict[str, str]:
    """Hands on tensors with their values, in the order of the files, and digests every file."""
    by_file: dict[Path, dict[str, StoredTensor]] = {}
    for name, source in tensors.items():
        if isinstance(source, StoredTensor):
            by_file.setdefault(source.path, {})[name] = source
        else:
            take(name, source.pieces())
    digests = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else (path,):
        if file.is_dir():
            continue
        key = file.relative_to(path).as_posix() if path.is_dir() else file.name
        digests[key] = ""
        if file.is_file():
            stored = by_file.pop(file, {})
            with DigestedReader(file) as reader:
                for name in sorted(stored, key=lambda name: stored[name].offset):
                    take(name, reader.pieces(stored[name]))
            digests[key] = reader.digest
    for stored in by_file.values():  # behind a link to a folder: no part of the checkpoint's digest
        for name, source in stored.items():
            take(name, source.pieces())
    return digests


def _difference(
    found: TensorSource, pieces: Iterator[Tensor], wanted: TensorSource
) -> float | None:
    """The largest difference of two values; None if all are the same bit for bit."""
    if found.shape != wanted.shape:
        return math.inf
    largest = None if found.dtype == wanted.dtype else 0.0
    for left, right in zip(pieces, wanted.pieces(), strict=True):
        if largest is None and torch.equal(left.view(torch.uint8), right.view(torch.uint8)):
            continue
        difference = float((left.double() - right.double()).abs().max())
        if math.isnan(difference):
            return math.inf
        largest = max(largest or 0.0, difference)
    return largest
