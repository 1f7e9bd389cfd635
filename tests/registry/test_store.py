from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from shiftreg.errors import InvalidInputError, StorageError
from shiftreg.registry import BaseRecord, Registry, open_registry, store
from shiftreg.registry.store import patient


def test_importing_the_registry_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, shiftreg.registry; print(sorted({'mlflow', 'torch'} & set(sys.modules)))"
    root = str(Path(store.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"


def _save_base(home: Path, record: BaseRecord) -> None:
    open_registry(home).bases.save(record)


def test_two_processes_may_create_one_registry_at_once(
    tmp_path: Path, record: BaseRecord, capfd: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "not" / "yet"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_save_base, args=(home, record)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert open_registry(home).bases.all() == (record,)
    assert {path.name for path in home.iterdir()} == {
        "artifacts",
        "registry.db",
        "registry.db.lock",
    }
    assert capfd.readouterr() == ("", "")


def test_the_registry_is_found_again_by_a_new_client(registry: Registry, home: Path) -> None:
    assert open_registry(home).bases.read("miniature") == registry.bases.read("miniature")


def test_a_home_with_odd_characters_works(tmp_path: Path, home: Path, record: BaseRecord) -> None:
    odd = home.rename(tmp_path / "mein Häuschen #1 & 'more'")
    registry = open_registry(odd)
    registry.bases.save(record)
    assert registry.bases.read("miniature") == record


@pytest.mark.parametrize("name", ["what?", "100%"])
def test_a_home_that_a_database_address_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="SHIFTREG_HOME"):
        open_registry(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"this is no database " * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_database_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "registry.db").write_bytes(content)
    with pytest.raises(StorageError, match="backup"):
        open_registry(tmp_path)
    assert (tmp_path / "registry.db").read_bytes() == content


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "registry.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = (tmp_path / "registry.db").read_bytes()
    with pytest.raises(StorageError, match="another program's"):
        open_registry(tmp_path)
    assert (tmp_path / "registry.db").read_bytes() == before


def test_a_database_of_another_mlflow_names_the_migration(home: Path) -> None:
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(StorageError, match="mlflow db upgrade sqlite:///"):
        open_registry(home)


def test_a_locked_database_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.1)
    other = sqlite3.connect(home / "registry.db")
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StorageError, match="Another process is writing"):
            open_registry(home)
    finally:
        other.close()


def test_a_file_in_the_place_of_home_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError):
        open_registry(tmp_path / "home")


def test_a_home_that_nobody_may_write_is_a_storage_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.chmod(0o555)
    # The superuser may write everywhere; ask as anybody else would.
    monkeypatch.setattr(
        store.os, "access", lambda path, mode: bool(Path(path).stat().st_mode & 0o200)
    )
    try:
        with pytest.raises(StorageError, match="read-only"):
            open_registry(home)
    finally:
        home.chmod(0o755)


def test_a_database_that_breaks_while_open_is_a_storage_error(
    registry: Registry, home: Path
) -> None:
    with sqlite3.connect(home / "registry.db") as connection:
        connection.execute("DROP TABLE experiment_tags")
    with pytest.raises(StorageError, match="no such table"):
        registry.bases.read("miniature")


def test_a_moved_home_is_refused_instead_of_split_in_two(
    registry: Registry, home: Path, tmp_path: Path
) -> None:
    moved = home.rename(tmp_path / "moved")
    with pytest.raises(StorageError, match="moved or copied"):
        open_registry(moved).bases.read("miniature")
    home.symlink_to(moved)
    assert open_registry(moved).bases.read("miniature").name == "miniature"


def test_a_server_that_is_down_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StorageError, match="SHIFTREG_TRACKING_URI"):
        open_registry(tmp_path, "http://127.0.0.1:9").bases.all()


class Conflicting:
    """A client that others get in the way of."""

    def __init__(self, conflicts: int, message: str) -> None:
        self.left, self.message = conflicts, message

    def create(self, name: str, *, tags: Any = None) -> str:
        if self.left:
            self.left -= 1
            raise RuntimeError(self.message)
        return f"{name} {tags}"


@pytest.mark.parametrize(
    "message", ["(sqlite3.OperationalError) database is locked", "Giving up after 3 attempts."]
)
def test_what_lost_a_race_is_tried_again(message: str) -> None:
    client: Any = patient(Conflicting(3, message))  # type: ignore[arg-type]
    assert client.create("a", tags=1) == "a 1"


def test_other_errors_come_at_once() -> None:
    broken = Conflicting(1, "no such table")
    client: Any = patient(broken)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no such table"):
        client.create("a")
    assert broken.left == 0


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.1)
    client: Any = patient(Conflicting(10**6, "database is locked"))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="locked"):
        client.create("a")


def test_a_registry_waits_for_a_database_that_another_writes(
    home: Path, record: BaseRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = open_registry(home)
    other = sqlite3.connect(home / "registry.db", check_same_thread=False, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
    release.start()
    registry.bases.save(record)
    release.join()
    other.close()
    assert registry.bases.all() == (record,)
