"""Checkpoints as torch saves them: a zip archive of a pickle and of raw values, a file a tensor.

Written from front to back in one pass, with check sums, and without the tensors in memory. The
archive holds the entries that every reader has known from the start: Stable Diffusion's web
interfaces refuse files with others.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch._utils import _rebuild_tensor_v2  # what every file of torch names in its pickle

from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.stored import (
    LoadedTensor,
    StoredTensor,
    TensorSource,
    raw_bytes,
    size_in_bytes,
)
from shiftreg.checkpoints.torch_file import TYPED_STORAGES, load_pickle_checkpoint
from shiftreg.errors import IntegrityError, InvalidInputError

ROOT = "archive"
PICKLE_PROTOCOL = 2
ALIGNMENT = 64
PADDING_ID = 0x4246  # the extra field by which torch aligns values
LARGE = 1 << 30  # bytes, from which an entry gets 64-bit sizes
DEEPEST = 4  # state dicts in state dicts
HEADER_SIZE, LARGE_HEADER_SIZE = 30, 50  # of an entry, without its name
STORAGES = {dtype: getattr(torch, name) for name, dtype in TYPED_STORAGES.items()}


def write_ckpt(
    file: DigestedFile, tensors: Mapping[str, TensorSource], extras: Mapping[str, str]
) -> None:
    """Writes a state dict, a piece of a tensor at a time.

    Args:
        file: Where to write; empty.
        tensors: What ``torch.load(...)["state_dict"]`` returns.
        extras: Texts beside it.

    Raises:
        InvalidInputError: A tensor's dtype is not one that every reader knows.
        OSError: The disk refused.
    """
    for name, source in tensors.items():
        if source.dtype not in STORAGES:
            raise InvalidInputError(
                f"{name}: a '.ckpt' cannot hold {source.dtype}. Export '.safetensors' instead."
            )
    keys = {name: str(number) for number, name in enumerate(tensors)}
    state = {name: _Reference(keys[name], source) for name, source in tensors.items()}
    content = io.BytesIO()
    _Pickler(content, PICKLE_PROTOCOL).dump({"state_dict": state, **extras})
    # What cannot seek gets its check sums after the values: everything is written once, in order.
    with zipfile.ZipFile(cast(IO[bytes], file), "w") as archive:
        _write_entry(file, archive, "data.pkl", content.tell(), [content.getbuffer()])
        for name, source in tensors.items():
            pieces = (raw_bytes(piece) for piece in source.pieces())
            _write_entry(file, archive, f"data/{keys[name]}", size_in_bytes(source), pieces)
        _write_entry(file, archive, "version", 2, [b"3\n"])


def stored_ckpt(path: Path) -> dict[str, TensorSource]:
    """Where the tensors of a checkpoint lie; those that are not in order are mapped.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: It is damaged, or holds something else than tensors in its state dict.
    """
    state = state_dict(load_pickle_checkpoint(path, values=False))
    sources: dict[str, TensorSource] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor | LoadedTensor):
            which = f" ({name[:99]!r})" if isinstance(name, str) else ""
            raise IntegrityError(
                f"'{path}' holds something else than tensors in its state dict{which}. "
                "Use a checkpoint of a diffusion model."
            )
        sources[name] = value
    return sources


def state_dict(content: dict[Any, Any]) -> dict[Any, Any]:
    """The innermost of dictionaries that training tools wrap weights in."""
    for _ in range(DEEPEST):
        inner = content.get("state_dict")
        if not isinstance(inner, dict):
            break
        content = inner
    return content


@dataclass(frozen=True)
class _Storage:
    """What the pickle says of a tensor's values."""

    key: str
    source: TensorSource

    def identifier(self) -> tuple[object, ...]:
        count = size_in_bytes(self.source) // self.source.dtype.itemsize
        return ("storage", STORAGES[self.source.dtype], self.key, "cpu", count)


@dataclass(frozen=True)
class _Reference:
    """Becomes a tensor when the pickle is loaded."""

    key: str
    source: TensorSource

    def __reduce__(self) -> tuple[Any, ...]:
        shape = self.source.shape
        strides = tuple(accumulate(reversed(shape[1:]), mul, initial=1))[::-1] if shape else ()
        storage = _Storage(self.key, self.source)
        return _rebuild_tensor_v2, (storage, 0, shape, strides, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> tuple[object, ...] | None:
        return value.identifier() if isinstance(value, _Storage) else None


def _write_entry(
    file: DigestedFile,
    archive: zipfile.ZipFile,
    name: str,
    size: int,
    pieces: Iterable[bytes | memoryview],
) -> None:
    """Writes one file of the archive, its values aligned so that they can be mapped."""
    entry = zipfile.ZipInfo(f"{ROOT}/{name}")
    entry.create_system = 3  # the same bytes on every system
    entry.file_size = size
    large = size > LARGE
    header = (LARGE_HEADER_SIZE if large else HEADER_SIZE) + len(entry.filename)
    padding = -(file.position + header + 4) % ALIGNMENT
    entry.extra = struct.pack("<HH", PADDING_ID, padding) + bytes(padding)
    with archive.open(entry, "w", force_zip64=large) as target:
        for piece in pieces:
            target.write(piece)
    entry.extra = b""  # not again in the list of contents
