"""Safetensors files, written so that equal content gives equal bytes.

The library's own writer orders the metadata anew in every run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from shiftreg.checkpoints.files import reading
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


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors, mapped from the file, and the metadata of its header.

    Raises:
        NotFoundError: The file does not exist.
        IntegrityError: It is damaged, or not a safetensors file.
    """
    with reading(path), safe_open(path, framework="pt", device="cpu") as handle:
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        return tensors, dict(handle.metadata() or {})


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Writes tensors one by one, so that mapped ones never fill the memory.

    Raises:
        InvalidInputError: A tensor's dtype has no name in the format.
        OSError: The disk refused.
    """
    with path.open("wb") as handle:
        for chunk in safetensors_chunks(tensors, metadata):
            handle.write(chunk)


def safetensors_chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: the header, then each tensor.

    Args:
        tensors: Of any device and layout.
        metadata: For the header.

    Raises:
        InvalidInputError: A tensor's dtype has no name in the format.
    """
    # The widest values first, so that every tensor lies at a multiple of its own width.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in DTYPE_NAMES:
            raise InvalidInputError(f"{name}: safetensors cannot hold {tensor.dtype}.")
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        values = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield values.view(torch.uint8).numpy().data
