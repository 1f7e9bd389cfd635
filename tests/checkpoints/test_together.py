"""A file and what lies beside it: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from shiftreg.checkpoints import placed_together
from shiftreg.errors import AlreadyExistsError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
