"""Tensors that stay in their files until their values are needed, and then come in pieces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
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
        offset = self.offset
        with opened(self.path) as handle:
            for piece in self.empty_pieces():
                read_into(handle, offset, raw_bytes(piece))
                offset += piece.nbytes
                yield piece

    def empty_pieces(self) -> Iterator[Tensor]:
        """Memory for the pieces."""
        count = math.prod(self.shape)
        for start in range(0, count, PIECE):
            yield torch.empty(min(PIECE, count - start), dtype=self.dtype)


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


def whole(source: TensorSource, pieces: Iterable[Tensor] | None = None) -> Tensor:
    """The tensor, in memory.

    Args:
        source: Where it lies.
        pieces: Its values, where they are read by somebody else.
    """
    values = list(source.pieces() if pieces is None else pieces)
    return torch.cat(values or [torch.empty(0, dtype=source.dtype)]).reshape(source.shape)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, whatever its dtype."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
