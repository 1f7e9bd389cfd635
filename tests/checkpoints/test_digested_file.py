from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from shiftreg.checkpoints import digested_file
from shiftreg.checkpoints.digested_file import BLOCK, CHUNK, DigestedFile, DigestedReader
from shiftreg.checkpoints.stored import StoredTensor, whole
from shiftreg.errors import IntegrityError, NotFoundError

SIZE = 2 * CHUNK + 3 * BLOCK + 77


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(0).randbytes(SIZE)


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "source").write_bytes(content)
    return tmp_path / "source"


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What the file system is asked to copy: size, and where from and to."""
    asked, original = [], os.copy_file_range

    def note(source: int, target: int, size: int, start: int, end: int) -> int:
        asked.append((size, start, end))
        return original(source, target, size, start, end)

    monkeypatch.setattr(os, "copy_file_range", note)
    return asked


def test_what_is_written_is_what_is_digested(tmp_path: Path, content: bytes) -> None:
    with DigestedFile(tmp_path / "x") as file:
        for start in range(0, SIZE, 100_003):
            assert file.position == start
            file.write(memoryview(content)[start : start + 100_003])
        file.write(b"")
    assert (tmp_path / "x").read_bytes() == content
    assert file.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("before", [0, 1, 77, BLOCK, BLOCK + 77])
@pytest.mark.parametrize("offset", [0, 77, BLOCK, BLOCK + 77, SIZE - 5, SIZE])
@pytest.mark.parametrize("length", [0, 5, BLOCK, CHUNK + BLOCK + 1, None])
def test_a_copy_is_exact_wherever_it_begins_and_ends(
    tmp_path: Path, content: bytes, source: Path, before: int, offset: int, length: int | None
) -> None:
    if length is not None and offset + length > SIZE:
        length = SIZE - offset
    with DigestedFile(tmp_path / "x") as file:
        file.write(b"b" * before)
        file.copy(source, offset, length)
        file.write(b"after")
    end = SIZE if length is None else offset + length
    expected = b"b" * before + content[offset:end] + b"after"
    assert (tmp_path / "x").read_bytes() == expected
    assert file.digest == hashlib.sha256(expected).hexdigest()


def test_the_file_system_is_asked_for_whole_blocks_and_nothing_else(
    tmp_path: Path, source: Path, shared: list[tuple[int, int, int]]
) -> None:
    with DigestedFile(tmp_path / "x") as file:
        file.write(b"b" * 77)
        file.copy(source, 77 + BLOCK)
    assert sum(size for size, _, _ in shared) == 2 * CHUNK + BLOCK
    assert all(number % BLOCK == 0 for numbers in shared for number in numbers)


def test_bytes_at_another_place_of_a_block_are_written(
    tmp_path: Path, source: Path, shared: list[tuple[int, int, int]]
) -> None:
    with DigestedFile(tmp_path / "x") as file:
        file.write(b"b")
        file.copy(source)
    assert shared == []


def refuse(*_: object) -> int:
    raise OSError(errno.EOPNOTSUPP, "not supported")


def copy_nothing(*_: object) -> int:
    return 0


def copy_a_little_then_refuse() -> Callable[..., int]:
    original, calls = os.copy_file_range, iter(range(100))

    def copy(source: int, target: int, size: int, start: int, end: int) -> int:
        number = next(calls)
        if number == 3:
            raise OSError(errno.EXDEV, "another file system")
        return original(source, target, min(size, 1000), start, end)

    return copy


@pytest.mark.parametrize("kind", ["refuses", "copies nothing", "stops", "is missing"])
def test_where_the_file_system_does_not_copy_the_bytes_are_written(
    tmp_path: Path,
    content: bytes,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared: list[tuple[int, int, int]],
    kind: str,
) -> None:
    if kind == "is missing":
        monkeypatch.delattr(os, "copy_file_range")
    else:
        kinds = {"refuses": refuse, "copies nothing": copy_nothing}
        copy = kinds.get(kind) or copy_a_little_then_refuse()
        monkeypatch.setattr(os, "copy_file_range", copy)
    with DigestedFile(tmp_path / "x") as file:
        file.copy(source)
        file.copy(source)
    assert (tmp_path / "x").read_bytes() == 2 * content
    assert file.digest == hashlib.sha256(2 * content).hexdigest()


def test_blocks_that_are_copied_a_little_at_a_time_are_all_copied(
    tmp_path: Path, content: bytes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.copy_file_range
    monkeypatch.setattr(
        os,
        "copy_file_range",
        lambda a, b, size, start, end: original(a, b, min(size, 300_000), start, end),
    )
    with DigestedFile(tmp_path / "x") as file:
        file.copy(source)
        file.write(b"after")
    assert (tmp_path / "x").read_bytes() == content + b"after"


def test_a_source_that_is_too_short_or_gone_is_named(tmp_path: Path, source: Path) -> None:
    with (
        pytest.raises(IntegrityError, match=r"source.*ends too early"),
        DigestedFile(tmp_path / "x") as file,
    ):
        file.copy(source, 10, SIZE)
    with pytest.raises(NotFoundError, match="none"), DigestedFile(tmp_path / "x") as file:
        file.copy(tmp_path / "none")


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list files")
def test_an_interruption_leaves_no_thread_and_no_open_file(tmp_path: Path, content: bytes) -> None:
    threads, handles = threading.active_count(), open_files()
    with pytest.raises(KeyboardInterrupt), DigestedFile(tmp_path / "x") as file:
        for _ in range(5):
            file.write(content)
        raise KeyboardInterrupt
    assert threading.active_count() == threads
    assert open_files() == handles


@pytest.mark.parametrize("times", [1, 9])
def test_what_the_disk_refuses_later_is_not_hidden(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A file system may find only then that it is full, and tells the first who asks."""

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    threads = threading.active_count()
    monkeypatch.setattr(digested_file, "FLUSH", len(content))
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"), DigestedFile(tmp_path / "x") as file:
        for _ in range(times):
            file.write(content)
    assert threading.active_count() == threads


def test_a_full_disk_is_not_hidden(small_disk: Path, content: bytes, source: Path) -> None:
    for fill in (lambda file: file.write(content), lambda file: file.copy(source)):
        with (
            pytest.raises(OSError, match="No space left"),
            DigestedFile(small_disk / "x") as file,
        ):
            fill(file)


def test_a_reader_gives_each_tensor_and_digests_every_byte_once(
    content: bytes, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, original = [], digested_file.read_into

    def note(handle: BinaryIO, offset: int, memory: memoryview) -> None:
        asked.append((offset, len(memory)))
        original(handle, offset, memory)

    monkeypatch.setattr(digested_file, "read_into", note)
    first = StoredTensor(source, 77, torch.uint8, (5, 20))
    second = StoredTensor(source, 2 * CHUNK, torch.uint8, (BLOCK,))
    overlapping = StoredTensor(source, 2 * CHUNK + 8, torch.uint8, (8,))
    with DigestedReader(source) as reader:
        for tensor in (first, second, overlapping):
            read = whole(tensor, reader.pieces(tensor))
            start = tensor.offset
            assert bytes(read.flatten().tolist()) == content[start : start + read.numel()]
            assert read.shape == tensor.shape
    assert reader.digest == hashlib.sha256(content).hexdigest()
    assert sum(size for _, size in asked) == SIZE
    assert [offset for offset, _ in asked] == sorted({offset for offset, _ in asked})


def test_a_tensor_that_was_not_read_to_its_end_is_digested_all_the_same(
    content: bytes, source: Path
) -> None:
    tensor = StoredTensor(source, 8, torch.uint8, (2 * CHUNK,))
    with DigestedReader(source) as reader:
        next(reader.pieces(tensor))
    assert reader.digest == hashlib.sha256(content).hexdigest()


def test_a_reader_of_a_short_file_says_so(source: Path) -> None:
    tensor = StoredTensor(source, SIZE - 5, torch.uint8, (6,))
    with pytest.raises(IntegrityError, match="too early"), DigestedReader(source) as reader:
        list(reader.pieces(tensor))
