"""Announcements stay as long as nobody knows how the change ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftreg.audit import WriteAheadLog
from shiftreg.errors import InvalidInputError, StorageError


@pytest.fixture
def log(tmp_path: Path) -> WriteAheadLog:
    return WriteAheadLog(tmp_path / "log")


def test_a_change_that_ends_well_leaves_nothing(log: WriteAheadLog) -> None:
    with log.recorded("erase", {"concept": "Čapek"}) as record:
        assert record.values == {"concept": "Čapek"}
        assert len(list(log.folder.glob("*.json"))) == 1
    assert list(log.folder.iterdir()) == []
    with log.abandoned() as left:
        assert left == ()


def test_a_change_that_fails_is_left_for_the_next_command(log: WriteAheadLog) -> None:
    with pytest.raises(KeyboardInterrupt), log.recorded("erase", {"n": 1}) as record:
        raise KeyboardInterrupt
    with log.abandoned() as left:
        assert left == (record,)
    with log.abandoned() as left:
        assert left == ()
    assert list(log.folder.iterdir()) == []


def test_records_stay_if_settling_them_fails(log: WriteAheadLog) -> None:
    with pytest.raises(RuntimeError), log.recorded("restore", {}):
        raise RuntimeError
    with pytest.raises(StorageError), log.abandoned():
        raise StorageError("the server is gone")
    with log.abandoned() as left:
        assert [record.action for record in left] == ["restore"]


def test_a_change_that_is_going_on_is_nobody_elses(log: WriteAheadLog) -> None:
    with log.recorded("erase", {}), WriteAheadLog(log.folder).abandoned() as left:
        assert left == ()
    assert list(log.folder.iterdir()) == []


def test_a_killed_process_leaves_its_record(log: WriteAheadLog) -> None:
    script = (
        "import sys, time; from pathlib import Path; from shiftreg.audit import WriteAheadLog\n"
        "with WriteAheadLog(Path(sys.argv[1])).recorded('export', {'path': 'x'}):\n"
        "    print('recorded', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(log.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recorded\n"
        with log.abandoned() as left:
            assert left == ()
        os.kill(process.pid, signal.SIGKILL)
    with log.abandoned() as left:
        assert [(record.action, record.process) for record in left] == [("export", process.pid)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"identity": 1}'])
def test_what_is_no_record_of_ours_is_left_alone(log: WriteAheadLog, content: bytes) -> None:
    log.folder.mkdir()
    planted = log.folder / "0.json"
    planted.write_bytes(content)
    with log.abandoned() as left:
        assert left == ()
    assert log.foreign() == [planted]
    assert list(log.folder.iterdir()) == [planted]
    assert planted.read_bytes() == content


def test_a_record_counts_for_its_author_home_and_name_alone(
    log: WriteAheadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt), log.recorded("erase", {"n": 1}) as record:
        raise KeyboardInterrupt
    path = log.folder / f"{record.identity}.json"
    assert log.read(path) == record
    assert WriteAheadLog(log.folder, lambda: "ada").foreign() == [path]
    copied = WriteAheadLog(shutil.copytree(log.folder, tmp_path / "other home"))
    assert copied.foreign() == copied.paths()
    twin = path.with_name("0123456789abcdef.json")
    shutil.copyfile(path, twin)
    link = path.with_name("link.json")
    link.symlink_to(path)
    edited = path.with_name("edited.json")
    edited.write_text(path.read_text(encoding="utf-8").replace('"n":1', '"n":2'))
    assert set(log.foreign()) == {twin, link, edited}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody else"))
    assert set(log.foreign()) == set(log.paths())


def test_without_a_place_for_a_secret_nothing_is_proven(
    log: WriteAheadLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(KeyboardInterrupt), log.recorded("erase", {}):
        raise KeyboardInterrupt
    assert log.foreign() == log.paths() != []


def test_what_json_cannot_say_is_refused_before_anything_happens(log: WriteAheadLog) -> None:
    with pytest.raises(InvalidInputError), log.recorded("erase", {"x": object()}):
        pytest.fail("the change was begun")


def test_a_disk_that_refuses_is_named(small_disk: Path) -> None:
    log = WriteAheadLog(small_disk / "log")
    with (
        pytest.raises(StorageError, match="free space"),
        log.recorded("x", {"y": "z" * 200_000}),
    ):
        pytest.fail("the change was begun")
    with log.abandoned() as left:
        assert left == ()
