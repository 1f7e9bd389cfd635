"""Announcements stay as long as nobody knows how the change ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shiftreg.audit import Intents
from shiftreg.errors import InvalidInputError, StorageError


@pytest.fixture
def intents(tmp_path: Path) -> Intents:
    return Intents(tmp_path / "intents")


def test_a_change_that_ends_well_leaves_nothing(intents: Intents) -> None:
    with intents.announced("erase", {"concept": "Čapek"}) as intent:
        assert intent.values == {"concept": "Čapek"}
        assert len(list(intents.folder.glob("*.json"))) == 1
    assert list(intents.folder.iterdir()) == []
    with intents.abandoned() as left:
        assert left == ()


def test_a_change_that_fails_is_left_for_the_next_command(intents: Intents) -> None:
    with pytest.raises(KeyboardInterrupt), intents.announced("erase", {"n": 1}) as intent:
        raise KeyboardInterrupt
    with intents.abandoned() as left:
        assert left == (intent,)
    with intents.abandoned() as left:
        assert left == ()
    assert list(intents.folder.iterdir()) == []


def test_announcements_stay_if_settling_them_fails(intents: Intents) -> None:
    with pytest.raises(RuntimeError), intents.announced("restore", {}):
        raise RuntimeError
    with pytest.raises(StorageError), intents.abandoned():
        raise StorageError("the server is gone")
    with intents.abandoned() as left:
        assert [intent.action for intent in left] == ["restore"]


def test_a_change_that_is_going_on_is_nobody_elses(intents: Intents) -> None:
    with intents.announced("erase", {}), Intents(intents.folder).abandoned() as left:
        assert left == ()
    assert list(intents.folder.iterdir()) == []


def test_a_killed_process_leaves_its_announcement(intents: Intents) -> None:
    script = (
        "import sys, time; from pathlib import Path; from shiftreg.audit import Intents\n"
        "with Intents(Path(sys.argv[1])).announced('export', {'path': 'x'}):\n"
        "    print('announced', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(intents.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "announced\n"
        with intents.abandoned() as left:
            assert left == ()
        os.kill(process.pid, signal.SIGKILL)
    with intents.abandoned() as left:
        assert [(intent.action, intent.process) for intent in left] == [("export", process.pid)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"identity": 1}'])
def test_a_damaged_announcement_is_dropped(intents: Intents, content: bytes) -> None:
    intents.folder.mkdir()
    (intents.folder / "0.json").write_bytes(content)
    with intents.abandoned() as left:
        assert left == ()
    assert list(intents.folder.glob("*.json")) == []


def test_what_json_cannot_say_is_refused_before_anything_happens(intents: Intents) -> None:
    with pytest.raises(InvalidInputError), intents.announced("erase", {"x": object()}):
        pytest.fail("the change was begun")


def test_a_disk_that_refuses_is_named(small_disk: Path) -> None:
    intents = Intents(small_disk / "intents")
    with (
        pytest.raises(StorageError, match="free space"),
        intents.announced("x", {"y": "z" * 200_000}),
    ):
        pytest.fail("the change was begun")
    with intents.abandoned() as left:
        assert left == ()
