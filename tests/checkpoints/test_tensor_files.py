from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shiftreg.checkpoints.tensor_files import DTYPE_NAMES, read_safetensors, write_safetensors
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError


def test_every_dtype_and_shape_is_read_back_by_the_library(tmp_path: Path) -> None:
    tensors = {
        f"{name}-{len(shape)}": torch.ones(shape).to(dtype)
        for dtype, name in DTYPE_NAMES.items()
        for shape in ((), (0, 2), (3,), (1, 2, 3))
    }
    write_safetensors(tmp_path / "x", tensors, {"format": "pt"})
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].double(), tensor.double())


def test_metadata_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.zeros(3), "a": torch.ones(2, dtype=torch.float16)}
    write_safetensors(tmp_path / "x", tensors, {"one": "1", "two": "2", "three": "3"})
    turned = dict(reversed(tensors.items()))
    write_safetensors(tmp_path / "y", turned, {"three": "3", "two": "2", "one": "1"})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert read_safetensors(tmp_path / "x")[1] == {"one": "1", "two": "2", "three": "3"}


def test_a_dtype_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="complex64"):
        write_safetensors(tmp_path / "x", {"a": torch.zeros(1, dtype=torch.complex64)}, {})


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="none"):
        read_safetensors(tmp_path / "none")
    for content in (b"", b"12345678", b"not a tensor file at all"):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(IntegrityError, match="bad"):
            read_safetensors(tmp_path / "bad")
