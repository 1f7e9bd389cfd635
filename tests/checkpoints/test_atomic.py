"""A file and what lies beside it: all or nothing."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from shiftreg.checkpoints import atomic_file, atomic_folder, placed_together
from shiftreg.errors import (
    AlreadyExistsError,
    InvalidInputError,
    StorageError,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_at_the_end_of_the_block(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with atomic_file(target) as partial:
        partial.write_text("content")
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
        assert partial.name.endswith(".partial")
        assert not target.exists()
    assert names(tmp_path) == ["target"]
    assert target.read_text() == "content"


class InterruptedDisk(io.RawIOBase):
    """Takes the first blocks; the user loses patience at the fourth."""

    blocks = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.blocks += 1
        if self.blocks == 4:
            raise KeyboardInterrupt
        return len(data)


def test_an_interrupt_that_torch_hides_behind_an_error_of_its_own_stays_an_interrupt(
    tmp_path: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "file"):
        torch.save({"weight": torch.zeros(100_000)}, cast(IO[bytes], InterruptedDisk()))
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_exception_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException], overwrite: bool
) -> None:
    if overwrite:
        (tmp_path / "file").write_text("old")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "old").touch()
    before = names(tmp_path)

    def write_half_a_file() -> None:
        with atomic_file(tmp_path / "file", overwrite) as partial:
            partial.write_text("half")
            raise error

    def write_half_a_folder() -> None:
        with atomic_folder(tmp_path / "folder", overwrite) as partial:
            (partial / "half").touch()
            raise error

    for write in (write_half_a_file, write_half_a_folder):
        with pytest.raises(error):
            write()
    assert names(tmp_path) == before
    if overwrite:
        assert (tmp_path / "file").read_text() == "old"
        assert names(tmp_path / "folder") == ["old"]


def test_an_existing_target_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dangling"):
        with pytest.raises(AlreadyExistsError, match=name), atomic_file(tmp_path / name):
            pytest.fail("the block must not run")
    with pytest.raises(AlreadyExistsError), atomic_folder(tmp_path / "folder"):
        pytest.fail("the block must not run")


def test_overwriting_replaces_files_and_folders_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with atomic_file(tmp_path / "file", overwrite=True) as partial:
        partial.write_text("new")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with atomic_folder(tmp_path / "folder", overwrite=True) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "new").touch()
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "new"
    assert names(tmp_path / "folder") == ["deep"]


def test_a_file_never_replaces_a_folder_nor_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError), atomic_file(tmp_path / "folder", overwrite=True):
        pass
    with pytest.raises(InvalidInputError), atomic_folder(tmp_path / "file", overwrite=True):
        pass
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_two_writers_the_later_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "target"

    def race_for_a_file() -> None:
        with atomic_file(target) as partial:
            partial.write_text("late")
            with atomic_file(target) as other:
                other.write_text("early")

    def race_for_a_folder() -> None:
        with atomic_folder(tmp_path / "folder") as partial:
            (partial / "late").touch()
            with atomic_folder(tmp_path / "folder") as other:
                (other / "early").touch()

    for race in (race_for_a_file, race_for_a_folder):
        with pytest.raises(AlreadyExistsError):
            race()
    assert target.read_text() == "early"
    assert names(tmp_path / "folder") == ["early"]
    assert names(tmp_path) == ["folder", "target"]


def test_of_many_writers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    outcomes = []

    def write(number: int) -> None:
        start.wait()
        try:
            with atomic_file(tmp_path / "target") as partial:
                partial.write_text(str(number))
            outcomes.append(number)
        except AlreadyExistsError:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(tmp_path / "target").read_text()] == [str(number) for number in outcomes]
    assert names(tmp_path) == ["target"]


def test_a_failed_swap_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def fail_on_the_way_in(source: Path, destination: Path) -> None:
        if destination == target and not (source / "old").exists():
            raise KeyboardInterrupt
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_on_the_way_in)
    with pytest.raises(KeyboardInterrupt), atomic_folder(target, overwrite=True) as partial:
        (partial / "new").touch()
    assert names(tmp_path) == ["folder"]
    assert names(target) == ["old"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file", Path("/proc")):
        for atomic in (atomic_file, atomic_folder):
            with (
                pytest.raises(StorageError, match=str(folder / "target")),
                atomic(folder / "target"),
            ):
                pytest.fail("the block must not run")


def write_through_a_handle(tensors: dict[str, Tensor], path: Path) -> None:
    with path.open("wb") as handle:
        torch.save(tensors, handle)


@pytest.mark.parametrize(
    "write",
    [
        lambda tensors, path: path.write_bytes(b"x" * 200_000),
        save_file,
        torch.save,
        write_through_a_handle,
    ],
    ids=["bytes", "safetensors", "torch", "torch handle"],
)
def test_a_full_disk_is_said_and_leaves_nothing(
    small_disk: Path, write: Callable[[dict[str, Tensor], Path], object]
) -> None:
    tensors = {str(i): torch.zeros(5000) for i in range(8)}
    with (
        pytest.raises(StorageError, match=r"No space left.*Free some space"),
        atomic_file(small_disk / "target") as partial,
    ):
        write(tensors, partial)
    assert names(small_disk) == []


def test_errors_of_the_caller_are_not_mistaken_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), atomic_file(tmp_path / "target"):
        raise RuntimeError("shapes differ")


def test_a_very_long_name_is_refused_kindly(tmp_path: Path) -> None:
    with pytest.raises(StorageError), atomic_file(tmp_path / ("x" * 300)):
        pass
    with atomic_file(tmp_path / ("x" * 250)) as partial:
        partial.touch()
    assert names(tmp_path) == ["x" * 250]


def make(path: Path, text: str) -> None:
    path.write_text(text)
    path.with_name(f"{path.name}.sig").write_text(f"signature of {text}")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model"


def family(target: Path) -> list[Path]:
    return [target.with_name(f"{target.name}.sig"), target.with_name(f"{target.name}.json")]


def test_nothing_appears_before_all_is_placed(target: Path) -> None:
    with placed_together(target, family(target)) as placement:
        make(placement.path, "new")
        assert placement.path.name == "model"
        assert [name for name in names(target.parent) if not name.startswith(".")] == []
        placement.place()
        assert target.read_text() == "new"
    assert names(target.parent) == ["model", "model.sig"]


def test_what_is_never_placed_never_appears(target: Path) -> None:
    with placed_together(target, family(target)) as placement:
        make(placement.path, "new")
    assert names(target.parent) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("is_placed", [False, True])
def test_a_failure_leaves_nothing_behind(
    target: Path, is_placed: bool, error: type[BaseException]
) -> None:
    with pytest.raises(error), placed_together(target, family(target)) as placement:
        make(placement.path, "new")
        if is_placed:
            placement.place()
        raise error
    assert names(target.parent) == []


@pytest.mark.parametrize("is_placed", [False, True])
def test_a_failure_puts_back_what_was_replaced(target: Path, is_placed: bool) -> None:
    make(target, "old")
    with (
        pytest.raises(ValueError, match="too late"),
        placed_together(target, family(target), overwrite=True) as placement,
    ):
        placement.path.write_text("new")
        if is_placed:
            placement.place()
            assert names(target.parent)[-1:] == ["model"]  # the old signature is not the new file's
        raise ValueError("too late")
    assert names(target.parent) == ["model", "model.sig"]
    assert target.read_text() == "old"
    assert family(target)[0].read_text() == "signature of old"


def test_overwriting_takes_the_old_family_away_too(target: Path) -> None:
    make(target, "old")
    with placed_together(target, family(target), overwrite=True) as placement:
        placement.path.mkdir()
        (placement.path / "weights").write_text("new")
        placement.place()
    assert names(target.parent) == ["model"]
    assert (target / "weights").read_text() == "new"


def test_a_folder_is_put_back_whole(target: Path) -> None:
    target.mkdir()
    (target / "weights").write_text("old")
    with (
        pytest.raises(ValueError, match="late"),
        placed_together(target, overwrite=True) as placement,
    ):
        placement.path.write_text("new")
        placement.place()
        raise ValueError("late")
    assert (target / "weights").read_text() == "old"
    assert names(target.parent) == ["model"]


@pytest.mark.parametrize("taken", ["model", "model.sig"])
def test_what_exists_is_refused_before_the_work(target: Path, taken: str) -> None:
    (target.parent / taken).write_text("precious")
    with pytest.raises(AlreadyExistsError), placed_together(target, family(target)):
        pytest.fail("the block ran")
    assert (target.parent / taken).read_text() == "precious"
    assert names(target.parent) == [taken]


@pytest.mark.parametrize("taken", ["model", "model.sig"])
def test_another_writer_who_was_faster_keeps_its_file(target: Path, taken: str) -> None:
    with (
        pytest.raises(AlreadyExistsError),
        placed_together(target, family(target)) as placement,
    ):
        make(placement.path, "new")
        (target.parent / taken).write_text("precious")
        placement.place()
    assert names(target.parent) == [taken]
    assert (target.parent / taken).read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="no folder"),
        placed_together(tmp_path / "absent" / "model"),
    ):
        pytest.fail("the block ran")
