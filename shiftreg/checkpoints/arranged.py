"""Tensors made of stored ones by cutting, joining, turning: still read a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from shiftreg.checkpoints.stored import PIECE, LoadedTensor, StoredTensor, TensorSource, whole
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class ReshapedTensor:
    """The same values in another shape."""

    source: TensorSource
    shape: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.source.dtype

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``."""
        return self.source.pieces()


@dataclass(frozen=True)
class JoinedTensor:
    """Tensors one after another along their first dimension; of one dtype."""

    sources: tuple[TensorSource, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.sources[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        rows = sum(source.shape[0] for source in self.sources)
        return (rows, *self.sources[0].shape[1:])

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``."""
        rest: list[Tensor] = []
        count = 0
        for source in self.sources:
            for piece in source.pieces():
                rest.append(piece)
                count += piece.numel()
                while count >= PIECE:
                    values = torch.cat(rest)
                    yield values[:PIECE]
                    rest, count = [values[PIECE:]], count - PIECE
        if count:
            yield torch.cat(rest)


@dataclass(frozen=True)
class TurnedTensor:
    """A matrix with rows and columns exchanged; in memory while it is read."""

    source: TensorSource

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.source.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix."""
        return self.source.shape[::-1]

    def pieces(self) -> Iterator[Tensor]:
        """See ``TensorSource``."""
        return LoadedTensor(whole(self.source).T.contiguous()).pieces()


def reshaped(source: TensorSource, shape: Sequence[int]) -> TensorSource:
    """The same values in another shape, of as many values."""
    if tuple(shape) == source.shape:
        return source
    if isinstance(source, StoredTensor):
        return source.reshape(*shape)
    return ReshapedTensor(source, tuple(shape))


def rows(source: TensorSource, start: int, stop: int) -> TensorSource:
    """Some entries of the first dimension; of a stored tensor without reading it."""
    shape = (stop - start, *source.shape[1:])
    if isinstance(source, StoredTensor):
        skipped = start * prod(source.shape[1:]) * source.dtype.itemsize
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
    return JoinedTensor(tuple(sources))
