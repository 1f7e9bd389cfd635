from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints.digested_file import BLOCK, DigestedFile
from shiftreg.checkpoints.stored import LoadedTensor, whole
from shiftreg.checkpoints.tensor_files import (
    DTYPE_NAMES,
    read_safetensors,
    safetensors_chunks,
    stored_safetensors,
    widest_first,
    write_safetensors,
)
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError


def every_kind() -> dict[str, Tensor]:
    return {
        f"{name}-{len(shape)}": torch.ones(shape).to(dtype)
        for dtype, name in DTYPE_NAMES.items()
        for shape in ((), (0, 2), (3,), (1, 2, 3))
    }


def assert_same(loaded: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].double(), tensor.double())


def write_chunks(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.write_bytes(b"".join(safetensors_chunks(tensors, metadata)))


def write(path: Path, tensors: dict[str, Any], metadata: dict[str, str], like: int = 0) -> None:
    with DigestedFile(path) as file:
        write_safetensors(file, tensors, metadata, like)


def test_every_dtype_and_shape_is_read_back_by_the_library(tmp_path: Path) -> None:
    tensors = every_kind()
    write_chunks(tmp_path / "x", tensors, {"format": "pt"})
    assert_same(load_file(tmp_path / "x"), tensors)


def test_tensors_are_found_where_they_lie_whoever_wrote_them(tmp_path: Path) -> None:
    tensors = every_kind()
    save_file(tensors, tmp_path / "x", {"format": "pt"})
    stored, metadata = stored_safetensors(tmp_path / "x")
    assert metadata == {"format": "pt"}
    assert_same({name: whole(tensor) for name, tensor in stored.items()}, tensors)
    offsets = [tensor.offset for tensor in stored.values()]
    assert offsets == sorted(offsets)


def test_files_and_memory_are_written_alike(tmp_path: Path) -> None:
    tensors, metadata = every_kind(), {"b": "2", "a": "1"}
    write_chunks(tmp_path / "chunks", tensors, metadata)
    stored = stored_safetensors(tmp_path / "chunks")[0]
    loaded = {name: LoadedTensor(tensor) for name, tensor in tensors.items()}
    for name, sources in (("stored", stored), ("loaded", loaded)):
        write(tmp_path / name, widest_first(sources), metadata)
        assert (tmp_path / name).read_bytes() == (tmp_path / "chunks").read_bytes()


@pytest.mark.parametrize("like", [8, 88, 4096, 4104, 123456])
def test_values_come_to_lie_at_the_same_place_of_a_block(tmp_path: Path, like: int) -> None:
    tensors = {"a": torch.arange(10), "b": torch.arange(3)}
    sources = {name: LoadedTensor(tensor) for name, tensor in tensors.items()}
    write(tmp_path / "x", sources, {"format": "pt"}, like)
    stored = stored_safetensors(tmp_path / "x")[0]
    assert stored["a"].offset % BLOCK == like % BLOCK
    assert_same(load_file(tmp_path / "x"), tensors)


def test_metadata_order_does_not_change_the_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.zeros(3), "a": torch.ones(2, dtype=torch.float16)}
    write_chunks(tmp_path / "x", tensors, {"one": "1", "two": "2", "three": "3"})
    turned = dict(reversed(tensors.items()))
    write_chunks(tmp_path / "y", turned, {"three": "3", "two": "2", "one": "1"})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert read_safetensors(tmp_path / "x")[1] == {"one": "1", "two": "2", "three": "3"}


def test_a_dtype_without_a_name_is_refused(tmp_path: Path) -> None:
    odd = torch.zeros(1, dtype=torch.complex64)
    with pytest.raises(InvalidInputError, match="complex64"):
        write_chunks(tmp_path / "x", {"a": odd}, {})
    with pytest.raises(InvalidInputError, match="complex64"):
        write(tmp_path / "x", {"a": LoadedTensor(odd)}, {})
    save_file({"a": odd}, tmp_path / "x")
    with pytest.raises(InvalidInputError, match="a is of dtype C64"):
        stored_safetensors(tmp_path / "x")


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": [0, 20]},
        {"data_offsets": [4, 16]},
        {"data_offsets": [8, 24]},
        {"data_offsets": [-4, 12]},
        {"data_offsets": [16, 0]},
        {"shape": [5]},
        {"shape": [2, 3]},
        {"shape": [2**62, 4]},
        {"dtype": "F64"},
        {"dtype": "F33"},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    truth = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    header = json.dumps({"a": truth | entry}).encode()
    (tmp_path / "lies").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(IntegrityError, match="lies"):
        stored_safetensors(tmp_path / "lies")


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    for read in (read_safetensors, stored_safetensors):
        with pytest.raises(NotFoundError, match="none"):
            read(tmp_path / "none")
        for content in (b"", b"12345678", b"not a tensor file at all"):
            (tmp_path / "bad").write_bytes(content)
            with pytest.raises(IntegrityError, match="bad"):
                read(tmp_path / "bad")


@pytest.mark.parametrize(
    "header",
    [
        '{"a": ENTRY, "a": ENTRY}',
        '{"a": {"dtype": "F32", "dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}',
        '{"__metadata__": {"x": "1", "x": "2"}, "a": ENTRY}',
    ],
)
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, header: str) -> None:
    entry = '{"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}'
    content = header.replace("ENTRY", entry).encode()
    (tmp_path / "x").write_bytes(len(content).to_bytes(8, "little") + content + bytes(16))
    for read in (read_safetensors, stored_safetensors):
        with pytest.raises((InvalidInputError, IntegrityError), match=r"twice|duplicate"):
            read(tmp_path / "x")


def test_metadata_may_be_nothing(tmp_path: Path) -> None:
    content = b'{"__metadata__": null}'
    (tmp_path / "x").write_bytes(len(content).to_bytes(8, "little") + content)
    assert read_safetensors(tmp_path / "x") == stored_safetensors(tmp_path / "x") == ({}, {})
