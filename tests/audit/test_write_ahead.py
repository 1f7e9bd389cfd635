"""Announcements stay as long as nobody knows how the change ended."""

from __future__ import annotations

import os
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
def test_a_damaged_record_is_dropped(log: WriteAheadLog, content: bytes) -> None:
    log.folder.mkdir()
    (log.folder / "0.json").write_bytes(content)
    with log.abandoned() as left:
        assert left == ()
    assert list(log.folder.glob("*.json")) == []


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
