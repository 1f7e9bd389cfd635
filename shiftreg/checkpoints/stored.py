"""Tensors that stay in their files until their values are needed, and then come in pieces.

So do those that are cut, joined or transposed from stored ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from shiftreg.checkpoints.files import opened, read_into
from shiftreg.errors import InvalidInputError

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
        offset: Where in it the values begin, in bytes; they follow one another, the last dimension
            fastest.
    """

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]

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


@dataclass(frozen=True)
class Storage:
    """Values in a file, in a row.

    Attributes:
        key: What the pickle calls it.
        offset: Where they begin; -1 until it is known.
    """

    key: str
    dtype: torch.dtype
    count: int
    path: Path
    offset: int = -1


@dataclass(frozen=True)
class PickledTensor:
    """A view of a storage, as the pickle describes it."""

    storage: Storage
    dtype: torch.dtype
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def is_contiguous(self) -> bool:
        """Whether the values follow one another in the order of their indices."""
        if 0 in self.shape:
            return True
        return torch.empty_strided(self.shape, self.strides, device="meta").is_contiguous()

    def source(self) -> TensorSource:
        """The tensor, read when its values are needed."""
        if not self.is_contiguous():
            return LoadedTensor(self.load(mapped_file(self.storage.path)))
        offset = self.storage.offset + self.start * self.dtype.itemsize
        return StoredTensor(self.storage.path, offset, self.dtype, self.shape)

    def load(self, mapped: torch.UntypedStorage) -> Tensor:
        """The tensor, of the bytes of its file."""
        if math.prod(self.shape) == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        first = self.storage.offset
        own = mapped[first : first + self.storage.count * self.storage.dtype.itemsize]
        return torch.empty(0, dtype=self.dtype).set_(own, self.start, self.shape, self.strides)


def mapped_file(path: Path) -> torch.UntypedStorage:
    """A file's bytes; only those that are looked at come into memory, and none are written."""
    size = path.stat().st_size
    if not size:
        return torch.UntypedStorage(0)
    return cast(torch.UntypedStorage, torch.UntypedStorage.from_file(str(path), False, size))


def size_in_bytes(tensor: Tensor | TensorSource) -> int:
    """How many bytes the values take."""
    return math.prod(tensor.shape) * tensor.dtype.itemsize


def whole(source: TensorSource, pieces: Iterable[Tensor] | None = None) -> Tensor:
    """The tensor, in memory.

    Args:
        pieces: Its values, where they are read by somebody else.
    """
    values = list(source.pieces() if pieces is None else pieces)
    return torch.cat(values or [torch.empty(0, dtype=source.dtype)]).reshape(source.shape)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU, whatever its dtype."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


@dataclass(frozen=True)
class DerivedTensor:
    """A tensor that is made of others while it is read.

    Attributes:
        pieces: See ``TensorSource``.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Tensor]]


def reshaped(source: TensorSource, shape: Sequence[int]) -> TensorSource:
    """The same values in another shape, of as many values."""
    if tuple(shape) == source.shape:
        return source
    if isinstance(source, StoredTensor):
        return replace(source, shape=tuple(shape))
    return DerivedTensor(source.dtype, tuple(shape), source.pieces)


def transposed(source: TensorSource) -> TensorSource:
    """A matrix with rows and columns exchanged; in memory while it is read."""

    def read() -> Iterator[Tensor]:
        return LoadedTensor(whole(source).T.contiguous()).pieces()

    return DerivedTensor(source.dtype, source.shape[::-1], read)


def rows(source: TensorSource, start: int, stop: int) -> TensorSource:
    """Some entries of the first dimension; of a stored tensor without reading it."""
    shape = (stop - start, *source.shape[1:])
    if isinstance(source, StoredTensor):
        skipped = start * math.prod(source.shape[1:]) * source.dtype.itemsize
        return replace(source, offset=source.offset + skipped, shape=shape)
    return LoadedTensor(whole(source)[start:stop])


def joined(name: str, sources: Sequence[TensorSource]) -> TensorSource:
    """Tensors along their first dimension.

    Raises:
        InvalidInputError: Their dtypes or shapes differ.
    """
    if len(sources) == 1:
        return sources[0]
    kinds = {(source.dtype, source.shape) for source in sources}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"'{name}' joins tensors of one dtype and shape, and the base has "
            f"{' and '.join(sorted(f'{dtype} {shape}' for dtype, shape in kinds))}. "
            "Export with --dtype, or a folder."
        )
    dtype, (height, *width) = sources[0].dtype, sources[0].shape

    def read() -> Iterator[Tensor]:
        rest: list[Tensor] = []
        count = 0
        for piece in chain.from_iterable(source.pieces() for source in sources):
            rest.append(piece)
            count += piece.numel()
            while count >= PIECE:
                values = torch.cat(rest)
                yield values[:PIECE]
                rest, count = [values[PIECE:]], count - PIECE
        if count:
            yield torch.cat(rest)

    return DerivedTensor(dtype, (height * len(sources), *width), read)
