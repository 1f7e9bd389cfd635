"""Tensors that stay in their files until their values are needed, and then come in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from shiftreg.checkpoints.files import opened, read_into

PIECE = 1 << 20  # values: what is in memory of a tensor at a time


class TensorSource(Protocol):
    """A tensor that is read from front to back; whole, it need not fit into memory."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    def pieces(self) -> Iterator[Tensor]:
        """The values in order: tensors of one dimension and ``PIECE`` values, the last of fewer.

        Raises:
            NotFoundError: The file that holds them is gone.
            IntegrityError: It is too short.
            StorageError: It cannot be read.
        """


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path: The file.
        offset: Where in it the values begin, in bytes; they follow one another, the last dimension
            fastest.
        dtype: Of the values.
        shape: Of the tensor.
    """

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def reshape(self, *shape: int) -> StoredTensor:
        """The same values in another shape."""
        return replace(self, shape=shape)

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``."""
        count = math.prod(self.shape)
        with opened(self.path) as handle:
            for start in range(0, count, PIECE):
                piece = torch.empty(min(PIECE, count - start), dtype=self.dtype)
                read_into(handle, self.offset + start * self.dtype.itemsize, raw_bytes(piece))
                yield piece


@dataclass(frozen=True)
class LoadedTensor:
    """A tensor that is in memory, or mapped into it, after all."""

    tensor: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``."""
        return iter(self.tensor.reshape(-1).split(PIECE) if self.tensor.numel() else ())


def size_in_bytes(tensor: Tensor | TensorSource) -> int:
    """How many bytes the values take."""
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def whole(source: TensorSource) -> Tensor:
    """The tensor, in memory."""
    values = list(source.pieces()) or [torch.empty(0, dtype=source.dtype)]
    return torch.cat(values).reshape(source.shape)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, whatever its dtype."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
