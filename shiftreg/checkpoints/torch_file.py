"""Reading what ``torch.save`` wrote, without torch's reader: nothing is run, nothing unpacked.

The container is a zip archive whose values lie in the file as they are, or, before torch 1.6, a row
of pickles.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from shiftreg.checkpoints.files import opened, reading
from shiftreg.checkpoints.pickles import (
    LARGEST_PICKLE,
    Builder,
    CodeFoundError,
    Inert,
    fill,
    read_pickle,
)
from shiftreg.checkpoints.stored import PickledTensor, Storage, mapped_file
from shiftreg.errors import IntegrityError

LOCAL_HEADER = b"PK\x03\x04"
HEADER_SIZE = 30  # before the entry's name
END_SIZE = 22  # of the record that ends an archive, without its comment
LARGEST_LIST = 64 << 20  # bytes: a list of contents for half a million tensors
TYPED_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
STORAGES = TYPED_STORAGES | {"storage.UntypedStorage": torch.uint8}
# Those whose storages have no type of their own in the pickle.
DTYPES = {"torch.float8_e4m3fn": torch.float8_e4m3fn, "torch.float8_e5m2": torch.float8_e5m2} | {
    str(dtype): dtype for dtype in STORAGES.values()
}
# The first three pickles of a file of torch before 1.6.
OLD_MAGIC = 0x1950A86A20F9469CFC6C
OLD_VERSION = 1001
LARGEST_DIMENSION = 64


class TorchArchive:
    """An archive that was opened, and whose list of contents was checked.

    Archives are refused that torch would not write: compressed, with an entry twice, or larger
    inside than outside. So nothing can be unpacked to more than the file's own size.
    """

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        """Reads the list of contents.

        Raises:
            IntegrityError: The archive is damaged, or not one that torch writes.
            Exception: Of any kind, if it is damaged.
        """
        self._path = path
        self._handle = handle
        self._size = os.fstat(handle.fileno()).st_size
        self._check_list()
        with zipfile.ZipFile(handle) as archive:
            entries = archive.infolist()
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            if entry.filename in self._entries:
                raise self._odd(f"holds '{entry.filename[:99]}' twice")
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise self._odd(f"has compressed or encrypted '{entry.filename[:99]}'")
            if entry.compress_size != entry.file_size or entry.file_size > self._size:
                raise self._odd(f"lies about the size of '{entry.filename[:99]}'")
            self._entries[entry.filename] = entry
        pickles = [name for name in self._entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise self._odd(f"has {len(pickles)} files data.pkl")
        self._root = pickles[0].removesuffix("data.pkl")
        named = f"{self._root}byteorder" in self._entries
        if named and self.read("byteorder", 16).strip() != b"little":
            raise self._odd("holds numbers in another order of bytes")

    def read(self, name: str, largest: int = LARGEST_PICKLE) -> bytes:
        """The content of a small entry.

        Raises:
            IntegrityError: It is large.
        """
        offset, size = self.locate(name)
        if size > largest:
            raise self._odd(f"has {size:,} bytes in '{name}', where at most {largest:,} belong")
        self._handle.seek(offset)
        return self._handle.read(size)

    def locate(self, name: str) -> tuple[int, int]:
        """Where an entry's content begins in the file, and its length in bytes."""
        entry = self._entries[self._root + name]
        self._handle.seek(entry.header_offset)
        header = self._handle.read(HEADER_SIZE)
        if len(header) < HEADER_SIZE or not header.startswith(LOCAL_HEADER):
            raise self._odd(f"has no '{name}' where its list says")
        name_length, extra_length = (
            int.from_bytes(header[at : at + 2], "little") for at in (26, 28)
        )
        offset = entry.header_offset + HEADER_SIZE + name_length + extra_length
        if offset + entry.file_size > self._size:
            raise self._odd(f"ends before '{name}' does")
        return offset, entry.file_size

    def _check_list(self) -> None:
        """Bounds the list of contents before it is read: each entry takes memory."""
        tail_length = min(self._size, END_SIZE + (1 << 16))
        self._handle.seek(self._size - tail_length)
        tail = self._handle.read(tail_length)
        end = tail[tail.rfind(b"PK\x05\x06") :]
        size = int.from_bytes(end[12:16], "little")
        # All ones: the size is elsewhere, as for archives of more than 4 GB.
        if size != 0xFFFFFFFF and size > LARGEST_LIST:
            raise self._odd(f"has a list of contents of {size:,} bytes")

    def _odd(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"'{self._path}' is not an archive as torch writes them: it {what}. "
            "It is damaged, or was made to do harm: fetch or make it again."
        )


Convert = Callable[[PickledTensor], Any]


def load_pickle_checkpoint(path: Path, values: bool = True) -> dict[str, Any]:
    """Reads a ``torch.save`` file; code in it is never run.

    Args:
        values: Whether tensors are to be ``Tensor``, mapped from the file; otherwise they are
            ``TensorSource``.

    Returns:
        What was saved. What is neither a tensor, a container nor a plain value, such as the
        objects that training tools leave behind, is an ``Inert``.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: It is damaged, holds code, or is not a mapping.
    """
    with opened(path) as handle, reading(path):
        if values:
            mapped = mapped_file(path)
            content = _read(path, handle, lambda tensor: tensor.load(mapped))
        else:
            content = _read(path, handle, PickledTensor.source)
    if not isinstance(content, dict):
        made_by = content.name if isinstance(content, Inert) else ""
        what = made_by or type(content).__name__
        raise IntegrityError(
            f"'{path}' should hold a mapping of names to tensors, and holds a {what}. "
            "Use a checkpoint of a diffusion model."
        )
    return content


def _read(path: Path, handle: BinaryIO, convert: Convert) -> Any:
    """The content of either layout.

    Raises:
        IntegrityError: It holds code.
        Exception: Of any kind, if it is damaged.
    """
    try:
        if zipfile.is_zipfile(handle):
            return _read_archive(path, TorchArchive(path, handle), convert)
        return _read_old(path, handle, convert)
    except CodeFoundError as error:
        raise IntegrityError(
            f"'{path}' should hold plain tensors, and holds '{error}'; nothing in it was run. "
            "It is damaged, or carries code: use a .safetensors file of the same model."
        ) from error


def _read_archive(path: Path, archive: TorchArchive, convert: Convert) -> Any:
    def place(identifier: Any) -> Storage:
        storage = _storage(path, identifier)
        offset, size = archive.locate(f"data/{storage.key}")
        if size != storage.count * storage.dtype.itemsize:
            raise ValueError(f"'{storage.key}' has not the size that the pickle says")
        return replace(storage, offset=offset)

    return read_pickle(io.BytesIO(archive.read("data.pkl")), _builders(convert), place)


def _read_old(path: Path, handle: BinaryIO, convert: Convert) -> Any:
    """The layout before torch 1.6: five pickles, then each storage's length and values."""
    handle.seek(0)
    content = io.BytesIO(handle.read(LARGEST_PICKLE))
    magic, version, system = (read_pickle(content, {}, _no_storage) for _ in range(3))
    if magic != OLD_MAGIC or version != OLD_VERSION or not system["little_endian"]:
        raise ValueError("torch did not write it")
    start = content.tell()
    storages: dict[str, Storage] = {}

    def note(identifier: Any) -> Storage:
        storage = _storage(path, identifier)
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError("a storage is described in two ways")
        return storage

    # Where the values lie follows from what comes after the tensors: they are read twice.
    read_pickle(content, _builders(lambda tensor: tensor), note)
    keys = read_pickle(content, {}, _no_storage)
    if sorted(keys) != sorted(storages):
        raise ValueError("its storages are not those of its tensors")
    offset, size = content.tell(), handle.seek(0, io.SEEK_END)
    for key in keys:
        storage = storages[key]
        handle.seek(offset)
        if int.from_bytes(handle.read(8), "little") != storage.count:
            raise ValueError(f"'{key}' has not the size that the pickle says")
        storages[key] = replace(storage, offset=offset + 8)
        offset += 8 + storage.count * storage.dtype.itemsize
        if offset > size:
            raise EOFError("it ends too early")
    content.seek(start)
    return read_pickle(
        content, _builders(convert), lambda found: storages[_storage(path, found).key]
    )


def _no_storage(_: Any) -> Any:
    raise ValueError("a storage where none belongs")


def _builders(convert: Convert) -> dict[str, Builder]:
    """What is called in place of the functions that a pickle names. There are no others."""

    def tensor(storage: Any, start: Any, shape: Any, strides: Any, *_: Any) -> Any:
        return convert(_view(storage, storage.dtype, start, shape, strides))

    def tensor_of_dtype(storage: Any, start: Any, shape: Any, strides: Any, *rest: Any) -> Any:
        _grad, _hooks, dtype, *_ = rest
        if str(dtype) not in DTYPES:
            return Inert(str(dtype))
        return convert(_view(storage, DTYPES[str(dtype)], start, shape, strides))

    return {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_of_dtype,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch.Size": tuple,
        "collections.OrderedDict": _mapping,
        "collections.defaultdict": lambda *_: {},
    }


def _storage(path: Path, found: Any) -> Storage:
    """What a persistent identifier says: ("storage", type, key, device, count)."""
    kind, storage_type, key, _, count = found[:5]
    name = str(storage_type).removeprefix("torch.")
    if kind != "storage" or name not in STORAGES or not isinstance(key, str):
        raise ValueError(f"no storage of plain numbers: {str(storage_type)[:99]}")
    return Storage(key, STORAGES[name], _count(count), path)


def _view(storage: Any, dtype: torch.dtype, start: Any, shape: Any, strides: Any) -> PickledTensor:
    """A tensor that its storage really holds."""
    start, shape, strides = _count(start), tuple(map(_count, shape)), tuple(map(_count, strides))
    if not isinstance(storage, Storage):
        raise TypeError("a tensor of something else than stored values")
    if len(shape) != len(strides) or len(shape) > LARGEST_DIMENSION:
        raise ValueError("a tensor has not as many strides as dimensions")
    held = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = start + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # More values than are stored: a tensor that repeats them, and grows when it is copied.
    if math.prod(shape) and (last >= held or math.prod(shape) > held):
        raise ValueError("a tensor has more values than there are")
    return PickledTensor(storage, dtype, start, shape, strides)


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise TypeError("a size is not a number")
    return value


def _mapping(*arguments: Any) -> dict[Any, Any]:
    """An ordered dictionary; the oldest pickles give its items as pairs."""
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
    return fill({}, ((key, value) for key, value in pairs if isinstance(key, str)))
