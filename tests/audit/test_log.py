from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shiftreg.audit import GENESIS, AuditLog, FileEvents
from shiftreg.errors import IntegrityError, InvalidInputError, StorageError


def file_log(path: Path) -> AuditLog:
    return AuditLog(FileEvents(path))


def path_of(log: AuditLog) -> Path:
    assert isinstance(log.store, FileEvents)
    return log.store.path


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return file_log(tmp_path / "home" / "audit.jsonl")


def test_an_event_is_read_back_as_it_was_returned(log: AuditLog) -> None:
    event = log.append(
        "erase",
        base="miniature",
        concepts=["毕加索", "O'Keeffe"],
        reason="complaint 7\nsecond line\u2028",
        digests={"shift": "ab" * 32},
        details={"metrics": {"lpips": 0.1}, "layers": ("a", "b"), "places": {10: "ten", 9: "nine"}},
    )
    assert log.events() == (event,)
    assert event.sequence == 1
    assert event.previous == GENESIS
    assert event.concepts == ("毕加索", "O'Keeffe")
    assert event.time.endswith("+00:00")
    assert event.actor
    assert event.host
    assert event.tool_version
    assert log.verify().valid


def test_each_event_names_the_digest_of_the_one_before(log: AuditLog) -> None:
    first, second, third = (log.append("erase", base="b", concepts=[str(n)]) for n in range(3))
    assert second.previous == first.digest
    assert third.previous == second.digest
    assert [event.sequence for event in log.events()] == [1, 2, 3]
    report = log.verify()
    assert (report.valid, report.count, report.head) == (True, 3, third.digest)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no numbers of users")
def test_the_actor_is_the_account_and_not_what_the_environment_says(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "bob")
    account = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True)
    assert log.append("init", base="b").actor == account.stdout.strip() != "bob"
    nobody = 2**31 - 5  # such as in a container that is told to run as some number
    monkeypatch.setattr(os, "getuid", lambda: nobody)
    assert log.append("init", base="b").actor == f"uid {nobody}"


def test_the_actor_can_be_named(log: AuditLog) -> None:
    assert log.append("init", base="b", actor="rights desk").actor == "rights desk"


def test_a_log_that_was_never_written_is_valid_and_empty(log: AuditLog) -> None:
    report = log.verify()
    assert (report.valid, report.count, report.head) == (True, 0, GENESIS)
    assert log.events() == ()
    assert not path_of(log).exists()


@pytest.mark.parametrize("details", [{"loss": float("nan")}, {"path": "\udcff"}, {"x": object()}])
def test_what_json_cannot_say_is_refused_and_leaves_the_log_alone(
    log: AuditLog, details: dict[str, object]
) -> None:
    log.append("init", base="b")
    before = path_of(log).read_bytes()
    with pytest.raises(InvalidInputError):
        log.append("erase", base="b", details=details)
    assert path_of(log).read_bytes() == before


def test_an_event_without_action_is_refused(log: AuditLog) -> None:
    with pytest.raises(InvalidInputError, match="needs an action"):
        log.append(" ", base="b")


def test_a_long_last_event_is_found_again(log: AuditLog) -> None:
    long = log.append("init", base="b", details={"text": "é" * 50_000})
    assert log.append("erase", base="b").previous == long.digest
    assert log.verify().valid


def test_a_torn_last_line_is_reported_then_mended_by_the_next_append(
    log: AuditLog,
) -> None:
    first = log.append("init", base="b")
    log.append("erase", base="b")
    whole = path_of(log).read_bytes()
    path_of(log).write_bytes(whole[:-25])

    report = log.verify()
    assert not report.valid
    assert len(report.problems) == 1
    assert report.problems[0].startswith("line 2: torn")
    assert log.events() == (first,)

    log.append("erase", base="b", concepts=["again"])
    assert log.verify().valid
    repair = log.events()[1]
    assert repair.action == "repair"
    assert repair.details["removed"].encode() == whole[:-25].split(b"\n")[1]
    assert [event.action for event in log.events()] == ["init", "repair", "erase"]


@pytest.mark.parametrize("tail", [b" ", b"\x00\x00\x00", b"\xff{", b"{}"])
def test_a_tail_of_rubbish_is_mended(log: AuditLog, tail: bytes) -> None:
    log.append("init", base="b")
    path_of(log).write_bytes(path_of(log).read_bytes() + tail)
    assert not log.verify().valid
    log.append("erase", base="b")
    assert log.verify().valid
    assert log.events()[1].details["bytes"] == len(tail)


def test_a_log_that_is_nothing_but_a_torn_line_is_mended(log: AuditLog) -> None:
    path_of(log).parent.mkdir()
    path_of(log).write_bytes(b'{"action":"in')
    log.append("init", base="b")
    assert log.verify().valid
    assert [event.action for event in log.events()] == ["repair", "init"]


def test_an_event_that_lacks_only_its_line_break_is_kept(log: AuditLog) -> None:
    log.append("init", base="b")
    second = log.append("erase", base="b")
    path_of(log).write_bytes(path_of(log).read_bytes()[:-1])
    assert not log.verify().valid
    third = log.append("restore", base="b")
    assert third.previous == second.digest
    assert [event.action for event in log.events()] == ["init", "erase", "restore"]
    assert log.verify().valid


def test_nothing_is_appended_to_an_edited_last_event(log: AuditLog) -> None:
    log.append("erase", base="b", reason="complaint")
    path_of(log).write_bytes(path_of(log).read_bytes().replace(b"complaint", b"pleasure!"))
    before = path_of(log).read_bytes()
    with pytest.raises(IntegrityError, match="shiftreg audit verify"):
        log.append("restore", base="b")
    assert path_of(log).read_bytes() == before


def test_reading_names_the_line_that_is_no_event(log: AuditLog) -> None:
    log.append("init", base="b")
    path_of(log).write_bytes(path_of(log).read_bytes() + b"hello\n")
    with pytest.raises(IntegrityError, match="line 2: not an event"):
        log.events()


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="permissions"):
        file_log(tmp_path / "file" / "audit.jsonl").append("init", base="b")


def test_a_folder_in_the_place_of_the_log_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        file_log(tmp_path).verify()
    with pytest.raises(StorageError, match="cannot be written"):
        file_log(tmp_path).append("init", base="b")


def test_a_full_disk_leaves_no_half_event(tmp_path: Path) -> None:
    log = file_log(tmp_path / "audit.jsonl")
    log.append("init", base="b")
    before = path_of(log).read_bytes()
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_append_beyond_the_limit, args=(path_of(log), len(before) + 50)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert path_of(log).read_bytes() == before


def _append_beyond_the_limit(path: Path, limit: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(StorageError):
        file_log(path).append("erase", base="b", details={"text": "x" * 1000})


def test_writers_at_the_same_time_make_one_chain(log: AuditLog) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_ten, args=(path_of(log), name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    report = log.verify()
    assert report.valid
    assert report.count == 20


def test_eight_threads_make_one_chain(log: AuditLog) -> None:
    def append(name: int) -> list[str]:
        return [log.append("erase", base="b", concepts=[str(name)]).digest for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        digests = [digest for written in pool.map(append, range(8)) for digest in written]
    assert sorted(event.digest for event in log.events()) == sorted(digests)
    report = log.verify()
    assert (report.valid, report.count, report.notes) == (True, 160, ())


def _append_ten(path: Path, name: str) -> None:
    for _ in range(10):
        file_log(path).append("erase", base="b", concepts=[name])


def test_the_file_is_plain_json_lines(log: AuditLog) -> None:
    log.append("init", base="b")
    log.append("erase", base="b")
    records = [json.loads(line) for line in path_of(log).read_text().splitlines()]
    assert [record["action"] for record in records] == ["init", "erase"]
