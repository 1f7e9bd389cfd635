from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shiftreg.checkpoints import ckpt_file
from shiftreg.checkpoints.ckpt_file import STORAGES, stored_ckpt, write_ckpt
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.files import file_digest
from shiftreg.checkpoints.stored import PIECE, LoadedTensor, StoredTensor, whole
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError

EXTRAS = {"author": "nobody"}


def every_kind() -> dict[str, Tensor]:
    tensors = {
        f"{dtype}-{len(shape)}": torch.ones(shape).to(dtype)
        for dtype in STORAGES
        for shape in ((), (0, 2), (3,), (1, 2, 3), (4, 3, 2, 1))
    }
    return tensors | {"long": torch.arange(2 * PIECE + 1, dtype=torch.int16)}


def write(path: Path, tensors: dict[str, Tensor]) -> str:
    with DigestedFile(path) as file:
        write_ckpt(file, {name: LoadedTensor(t) for name, t in tensors.items()}, EXTRAS)
    return file.digest


def assert_same(loaded: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name], tensor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "model.ckpt", every_kind())
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_torch_reads_every_dtype_and_shape_without_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, large: bool
) -> None:
    if large:  # as if everything had more bytes than 32 bits count
        monkeypatch.setattr(ckpt_file, "LARGE", -1)
    write(tmp_path / "x", every_kind())
    content = torch.load(tmp_path / "x", weights_only=True, mmap=mapped)
    assert content.keys() == {"state_dict", "author"}
    assert content["author"] == "nobody"
    assert_same(content["state_dict"], every_kind())
    assert all(tensor.is_contiguous() for tensor in content["state_dict"].values())
    with zipfile.ZipFile(tmp_path / "x") as archive:
        assert archive.testzip() is None


def test_loaded_tensors_can_be_changed_apart(path: Path) -> None:
    state, tensors = torch.load(path, weights_only=True)["state_dict"], every_kind()
    state.pop("long").zero_()
    tensors.pop("long")
    assert_same(state, tensors)


def test_check_sums_are_right_and_tell_a_flipped_bit(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entry = archive.getinfo(f"archive/data/{len(every_kind()) - 1}")
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 500] ^= 1
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() == entry.filename


def test_the_archive_holds_only_what_every_reader_knows(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickle = archive.read("archive/data.pkl")
    assert all(re.fullmatch(r"archive/(data\.pkl|version|data/\d+)", name) for name in names)
    called = {arg for opcode, arg, _ in pickletools.genops(pickle) if opcode.name == "GLOBAL"}
    storages = {f"torch {storage.__name__}" for storage in STORAGES.values()}
    expected = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *storages}
    assert called == expected


def test_values_are_aligned_as_torch_aligns_them(path: Path) -> None:
    for source in stored_ckpt(path).values():
        assert isinstance(source, StoredTensor)
        assert source.offset % 64 == 0


def test_equal_tensors_give_equal_bytes_and_the_digest_is_the_files(tmp_path: Path) -> None:
    digests = {write(tmp_path / name, every_kind()) for name in ("one", "two")}
    assert digests == {file_digest(tmp_path / "one")} == {file_digest(tmp_path / "two")}


def test_a_dtype_that_not_every_reader_knows_is_refused(tmp_path: Path) -> None:
    odd = {"x": torch.zeros(1, dtype=torch.float8_e5m2)}
    with pytest.raises(InvalidInputError, match=r"x.*float8_e5m2.*safetensors"):
        write(tmp_path / "x", odd)


def test_tensors_are_found_where_they_lie(path: Path) -> None:
    assert_same({name: whole(source) for name, source in stored_ckpt(path).items()}, every_kind())


def test_files_of_torch_are_found_too(tmp_path: Path) -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    tensors = {"row": matrix[1], "same": matrix, "odd": torch.zeros(3, dtype=torch.bool)}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "new")
    torch.save(tensors, tmp_path / "bare")
    torch.save(tensors, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("new", "bare", "old"):
        found = stored_ckpt(tmp_path / name)
        assert_same({key: whole(source) for key, source in found.items()}, tensors)
        assert all(isinstance(source, StoredTensor) for source in found.values())


def test_a_turned_tensor_is_loaded_in_the_order_of_its_indices(tmp_path: Path) -> None:
    tensors = {"turned": torch.arange(12.0).reshape(3, 4).T}
    torch.save(tensors, tmp_path / "x")
    assert_same({key: whole(s) for key, s in stored_ckpt(tmp_path / "x").items()}, tensors)


def test_what_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": 5}}, tmp_path / "numbers")
    with pytest.raises(IntegrityError, match="numbers"):
        stored_ckpt(tmp_path / "numbers")
    with pytest.raises(NotFoundError, match="none"):
        stored_ckpt(tmp_path / "none")


def test_a_pickle_that_promises_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lies"
    torch.save({"x": torch.zeros(10, dtype=torch.uint8)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickle = next(name for name in entries if name.endswith("data.pkl"))
    # The pickle says how many values there are: 10 become 65535.
    assert b"K\x0a" in entries[pickle]
    entries[pickle] = entries[pickle].replace(b"K\x0a", b"M\xff\xff")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(IntegrityError, match="lies"):
        {name: whole(source) for name, source in stored_ckpt(path).items()}
