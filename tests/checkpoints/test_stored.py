from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shiftreg.checkpoints.stored import (
    PIECE,
    LoadedTensor,
    StoredTensor,
    TensorSource,
    raw_bytes,
    size_in_bytes,
    whole,
)
from shiftreg.errors import IntegrityError, NotFoundError

OFFSET = 13  # of no value's width


def stored(path: Path, tensor: torch.Tensor) -> StoredTensor:
    path.write_bytes(b"x" * OFFSET + bytes(raw_bytes(tensor)) + b"y")
    return StoredTensor(path, OFFSET, tensor.dtype, tuple(tensor.shape))


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_a_tensor_comes_in_pieces_that_make_it_up(tmp_path: Path, count: int) -> None:
    tensor = torch.arange(count, dtype=torch.int16)
    sources: tuple[TensorSource, ...] = (stored(tmp_path / "x", tensor), LoadedTensor(tensor))
    for source in sources:
        pieces = list(source.pieces())
        assert all(piece.shape == (PIECE,) for piece in pieces[:-1])
        assert all(0 < len(piece) <= PIECE for piece in pieces)
        assert torch.equal(whole(source), tensor)
        assert size_in_bytes(source) == tensor.nbytes


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.float8_e5m2])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_any_dtype_and_shape_is_read(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    tensor = torch.ones(shape).to(dtype)
    read = whole(stored(tmp_path / "x", tensor))
    assert (read.dtype, read.shape) == (dtype, tensor.shape)
    assert torch.equal(read.double(), tensor.double())


def test_pieces_may_be_kept(tmp_path: Path) -> None:
    tensor = torch.arange(3 * PIECE, dtype=torch.int32)
    kept = list(stored(tmp_path / "x", tensor).pieces())
    assert torch.equal(torch.cat(kept), tensor)


def test_a_turned_tensor_comes_in_the_order_of_its_indices() -> None:
    tensor = torch.arange(6).reshape(2, 3).T
    assert torch.equal(torch.cat(list(LoadedTensor(tensor).pieces())), tensor.flatten())


def test_a_file_that_is_too_short_or_gone_is_named(tmp_path: Path) -> None:
    source = stored(tmp_path / "weights", torch.arange(10))
    content = source.path.read_bytes()
    source.path.write_bytes(content[:-2])
    with pytest.raises(IntegrityError, match=r"weights.*ends too early"):
        whole(source)
    source.path.unlink()
    with pytest.raises(NotFoundError, match="weights"):
        whole(source)
