"""What fails around a command: the database, the disk, the clock, the permissions.

Afterwards the registry is as before or as after, and a next command works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shiftreg import api
from shiftreg.errors import StorageError
from shiftreg.registry import Shifts, store
from shiftreg.settings import Settings
from shiftreg_cli.main import app
from tests.worlds import Worlds


def is_whole(workspace: api.Workspace) -> bool:
    """Whether a registry has nothing to repair: each version has its event, each event its own."""
    diagnosis = api.examine_registry(workspace)
    assert diagnosis.findings == (), diagnosis.findings
    return diagnosis.healthy


def versions(workspace: api.Workspace) -> list[str]:
    return [f"{v.reference}" for v in workspace.registry.shifts.active(workspace.base.name)]


def story(workspace: api.Workspace) -> list[str]:
    return [event.action for event in workspace.audit.events()]


def fails() -> Any:
    return pytest.raises(StorageError)


@pytest.fixture
def erased(home: Path, worlds: Worlds) -> api.Workspace:
    """A workspace in which Caravaggio is erased."""
    return worlds.open(home, "Caravaggio")


# The database


@contextmanager
def writing_elsewhere(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the database's lock for writing, until its input ends."""
    program = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "sys.stdout.write('locked\\n'); sys.stdout.flush(); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(home / "registry.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process


def test_a_locked_database_is_waited_for(workspace: api.Workspace) -> None:
    with writing_elsewhere(workspace.settings.home) as other:
        assert other.stdin
        threading.Timer(2.0, other.stdin.close).start()
        api.erase(workspace, ["Caravaggio"])
    assert story(workspace) == ["init", "erase"]
    assert is_whole(workspace)


def test_a_database_that_stays_locked_is_named(
    erased: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = erased
    _ = workspace.base
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("mlflow.store.db.utils.sql", Hurried())  # which waits for 20 s
    with (
        writing_elsewhere(workspace.settings.home),
        pytest.raises(StorageError, match=r"database is locked.*try again in a moment"),
    ):
        api.restore(workspace, ["Caravaggio"], reason="licence")
    workspace = api.open_workspace(workspace.settings)
    assert versions(workspace) == ["Caravaggio@1"]
    assert story(workspace) == ["init", "erase"]
    assert is_whole(workspace)


class Hurried:
    """SQLAlchemy's texts, in which SQLite is told to wait for a moment alone."""

    def __getattr__(self, name: str) -> Any:
        import sqlalchemy.sql

        return getattr(sqlalchemy.sql, name)

    @staticmethod
    def text(words: str) -> Any:
        import sqlalchemy.sql

        return sqlalchemy.sql.text(words.replace("busy_timeout = 20000", "busy_timeout = 100"))


# The disk


@contextmanager
def filled(folder: Path, left: int) -> Iterator[None]:
    """A file that leaves so many bytes of a file system."""
    filler = folder / "filler"
    state = os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(state.f_bavail * state.f_frsize - left, 1))
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_leaves_no_change_in_between(
    small_disk: Path, database: Path, tmp_path: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=6m", str(small_disk)], check=True)
    home = small_disk / "home"
    home.mkdir()
    shutil.copyfile(database, home / "registry.db")
    settings = Settings(home, "miniature", None)
    workspace = api.open_workspace(settings)
    api.register_base(workspace, steps=1)
    plan = api.plan_composition(workspace)
    for left in (0, 12_000, 100_000, 200_000):  # no run; no upload; no version; no event
        before = story(workspace)
        with filled(small_disk, left), fails():
            api.erase(workspace, ["Caravaggio"])
        workspace = api.open_workspace(settings)
        assert is_whole(workspace), left
        assert len(versions(workspace)) == len(story(workspace)) - 1
        assert story(workspace)[: len(before)] == before
    target = tmp_path / "model.safetensors"
    for left in (0, 4096, 20_000):
        with filled(small_disk, left), fails():
            api.export_composition(workspace, plan, target)
        workspace = api.open_workspace(settings)
        assert is_whole(workspace), left
        assert target.exists() == ("export" in story(workspace))
        assert not list(tmp_path.glob(".*"))


def test_an_event_that_finds_no_place_is_told_later(
    workspace: api.Workspace, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = workspace.settings.home / "audit.jsonl"
    shutil.move(trail, small_disk / "audit.jsonl")
    trail.symlink_to(small_disk / "audit.jsonl")
    with filled(small_disk, 0), pytest.raises(StorageError, match=r"audit log .* free space"):
        # A page of the file is there already: what is written must need another one.
        api.erase(workspace, ["Caravaggio"], reason="a long story " * 500)
    assert versions(workspace) == ["Caravaggio@1"]
    assert story(workspace) == ["init"]
    workspace = api.open_workspace(workspace.settings)
    assert story(workspace) == ["init", "erase"]
    assert is_whole(workspace)


# The clock


class Earlier(datetime):
    """A clock that was put back by a day."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) - timedelta(days=1)


def test_a_clock_that_goes_back_is_remarked_and_no_damage(
    erased: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = erased
    for module in ("shiftreg.audit.events", "shiftreg.audit.write_ahead"):
        monkeypatch.setattr(f"{module}.datetime", Earlier)
    api.restore(workspace, ["Caravaggio"], reason="licence")
    _, erased, restored = workspace.audit.events()
    assert datetime.fromisoformat(restored.time) < datetime.fromisoformat(erased.time)
    assert datetime.fromisoformat(restored.time) < datetime.now(UTC) - timedelta(hours=23)
    assert restored.previous == erased.digest
    report = api.verify_trail(workspace)
    assert report.valid
    assert [note for note in report.notes if "clock" in note]
    assert is_whole(workspace)
    result = run(workspace.settings.home, "audit", "verify")
    assert result.exit_code == 0
    assert "was behind that of the event before" in " ".join(result.stdout.split())


def test_an_interrupted_change_is_completed_whatever_the_clock_says(
    erased: api.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = erased
    api.restore(workspace, ["Caravaggio"], reason="licence")

    class Killed(BaseException): ...

    def killed(*_args: object, **_options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        for module in ("shiftreg.audit.events", "shiftreg.audit.write_ahead"):
            patched.setattr(f"{module}.datetime", Earlier)
        patched.setattr(Shifts, "activate", killed)
        api.erase(workspace, ["Caravaggio"])
    workspace = api.open_workspace(workspace.settings)
    assert versions(workspace) == ["Caravaggio@2"]
    assert is_whole(workspace)


# The permissions


@pytest.fixture
def read_only(erased: api.Workspace) -> Iterator[Path]:
    """A home in which a concept is erased, and nothing can be written: not by root either."""
    home = erased.settings.home
    if os.getuid() != 0:
        paths = [home, *home.rglob("*")]
        modes = {path: path.stat().st_mode for path in paths}
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        yield home
        for path, mode in modes.items():
            path.chmod(mode)
        return
    if subprocess.run(["mount", "--bind", home, home], check=False, capture_output=True).returncode:
        pytest.skip("mounting needs privileges that this root does not have")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
        yield home
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)  # MLflow keeps it open


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)], env={"COLUMNS": "200"})


def test_a_home_that_cannot_be_written_can_be_read(read_only: Path, tmp_path: Path) -> None:
    before = sorted(read_only.rglob("*"))
    reading = ("list", "show Caravaggio", "audit", "audit verify", "where Caravaggio", "doctor")
    plans = ("erase Picasso --dry-run", "compose", "policy", "refresh --dry-run")
    for words in (*reading, *plans):
        result = run(read_only, *words.split())
        assert result.exit_code == 0, (words, result.stderr)
    assert "Nothing is damaged" in run(read_only, "doctor").stdout

    target = tmp_path / "model.ckpt"
    writing = ("erase Picasso", "restore Caravaggio --reason x --yes", "verify", "init", "refresh")
    for words in (*writing, f"compose --export {target}", "doctor --repair"):
        result = run(read_only, *words.split())
        assert result.exit_code == 2, words
        assert "is read-only" in result.stderr
        assert "Change its permissions, or choose another with SHIFTREG_HOME" in result.stderr
    assert not target.exists()
    assert sorted(read_only.rglob("*")) == before


def test_a_new_home_in_a_folder_that_cannot_be_written_is_refused(read_only: Path) -> None:
    result = run(read_only / "new", "list")
    assert result.exit_code == 2
    assert "is read-only" in result.stderr
