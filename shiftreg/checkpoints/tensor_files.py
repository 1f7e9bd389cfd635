"""Safetensors files, written so that equal content gives equal bytes.

The library's own writer orders the metadata differently in every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from shiftreg.checkpoints.digested_file import BLOCK, DigestedFile
from shiftreg.checkpoints.files import opened, reading
from shiftreg.checkpoints.stored import StoredTensor, TensorSource, raw_bytes, size_in_bytes
from shiftreg.errors import InvalidInputError

ALIGNMENT = 8
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
AnyTensor = TypeVar("AnyTensor", bound=Tensor | TensorSource)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors, mapped from the file, and the metadata of its header.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: It is damaged, or not a safetensors file.
    """
    with reading(path), safe_open(path, framework="pt", device="cpu") as handle:
        _read_header(path)
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        return tensors, dict(handle.metadata() or {})


def stored_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Where the tensors of a file lie, in the file's order, and the metadata of its header.

    Raises as :func:`read_safetensors`; and InvalidInputError if a dtype is not known here.
    """
    # The library compares what the header says with the file's size, and refuses gaps and overlaps.
    with reading(path), safe_open(path, framework="pt", device="cpu"):
        header, start = _read_header(path)
    metadata = header.pop("__metadata__", None) or {}
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in DTYPES:
            raise InvalidInputError(
                f"'{path}': {name} is of dtype {entry['dtype']}, and "
                f"{', '.join(DTYPES)} can be written. Convert the file."
            )
        offset, shape = start + entry["data_offsets"][0], tuple(entry["shape"])
        tensors[name] = StoredTensor(path, offset, DTYPES[entry["dtype"]], shape)
    return tensors, metadata


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, once the library found it to be one, and where the values begin.

    Raises:
        InvalidInputError: A name is there twice: readers would take one or the other.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for name, value in pairs:
            if name in content:
                raise InvalidInputError(
                    f"'{path}' holds '{name[:99]}' twice. Save it again with one tensor a name."
                )
            content[name] = value
        return content

    with opened(path) as handle:
        length = int.from_bytes(handle.read(8), "little")
        return json.loads(handle.read(length), object_pairs_hook=unique), 8 + length


def write_safetensors(
    file: DigestedFile,
    tensors: Mapping[str, TensorSource],
    metadata: Mapping[str, str],
    like: int = 0,
    wrote: Callable[[int], None] = lambda _size: None,
) -> None:
    """Writes tensors in the order given, a piece at a time.

    Args:
        like: Where the values of a file begin that these are copied from: they come to lie at the
            same place of a block, so that file systems can share the blocks.
        wrote: Called with the size of each tensor when it is written.

    Raises:
        InvalidInputError: A tensor's dtype has no name in the format.
        OSError: The disk refused.
    """
    header = _header(tensors, metadata)
    file.write(_padded(header, like, BLOCK) if like else _padded(header))
    for source in tensors.values():
        if isinstance(source, StoredTensor):
            file.copy(source.path, source.offset, size_in_bytes(source))
        else:
            for piece in source.pieces():
                file.write(raw_bytes(piece))
        wrote(size_in_bytes(source))


def widest_first(tensors: Mapping[str, AnyTensor]) -> dict[str, AnyTensor]:
    """Orders tensors so that each lies at a multiple of its values' width; else by name."""
    return dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))


def safetensors_chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: the header, then each tensor, the widest values first.

    Args:
        tensors: Of any device and layout.

    Raises:
        InvalidInputError: A tensor's dtype has no name in the format.
    """
    ordered = widest_first(tensors)
    yield _padded(_header(ordered, metadata))
    for tensor in ordered.values():
        yield raw_bytes(tensor.detach().cpu().contiguous())


def _header(
    tensors: Mapping[str, Tensor] | Mapping[str, TensorSource], metadata: Mapping[str, str]
) -> bytes:
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPE_NAMES:
            raise InvalidInputError(f"{name}: safetensors cannot hold {tensor.dtype}.")
        end = offset + size_in_bytes(tensor)
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def _padded(header: bytes, start: int = 0, block: int = ALIGNMENT) -> bytes:
    """The header with its length before it, so long that the values begin where ``start`` does."""
    header += b" " * ((start - 8 - len(header)) % block)
    return len(header).to_bytes(8, "little") + header
