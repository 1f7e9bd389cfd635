"""The chain in a real MLflow server, and what its users and others may do to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from shiftreg.api import open_workspace
from shiftreg.audit import GENESIS, AuditEvent, AuditLog, AuditReport
from shiftreg.audit.events import Draft
from shiftreg.errors import IntegrityError
from shiftreg.registry import open_registry
from shiftreg.registry.server import account
from shiftreg.registry.server_events import EVENT, NAME
from shiftreg.settings import Settings
from tests.servers import Server


@pytest.fixture
def client(server: Server) -> MlflowClient:
    """Somebody at the server, who finds no chain there."""
    return MlflowClient(server.uri, registry_uri=server.uri)


@pytest.fixture
def log_of(server: Server, tmp_path: Path) -> Callable[[str], AuditLog]:
    """The log as a person sees it, from a home of their own."""
    return lambda person: AuditLog(open_registry(tmp_path / person, server.uri).events)


@pytest.fixture
def log(log_of: Callable[[str], AuditLog]) -> AuditLog:
    return log_of("ada")


@pytest.fixture
def stranger(log_of: Callable[[str], AuditLog]) -> AuditLog:
    """Who never saw the chain before, and so must find everything in it."""
    return log_of("stranger")


def write(log: AuditLog, count: int) -> list[AuditEvent]:
    return [log.append("erase", base="b", concepts=[f"concept {n}"]) for n in range(1, count + 1)]


def tag(client: MlflowClient, version: int) -> str:
    return client.get_model_version(NAME, str(version)).tags[EVENT]


def put(client: MlflowClient, version: int, line: str) -> None:
    client.set_model_version_tag(NAME, str(version), EVENT, line)


def insert(client: MlflowClient, like: ModelVersion, line: str) -> None:
    tags = {EVENT: line}
    client.create_model_version(NAME, like.source, like.run_id, tags, await_creation_for=0)


def places(report: AuditReport) -> list[int]:
    return [int(p.removeprefix("version ").split(":")[0]) for p in report.problems]


def test_all_who_use_a_server_share_one_chain(
    log: AuditLog, log_of: Callable[[str], AuditLog]
) -> None:
    other = log_of("ben")
    assert log.events() == ()
    first = log.append("init", base="b", details={"source": "é“\u2028"})
    second = other.append("erase", base="b", concepts=["毕加索"], digests={"shift": "ab" * 32})
    third = log.append("restore", base="b")
    assert (first.previous, second.previous, third.previous) == (
        GENESIS,
        first.digest,
        second.digest,
    )
    assert log.events() == other.events() == (first, second, third)
    report = other.verify()
    assert (report.valid, report.count, report.head) == (True, 3, third.digest)
    assert report.notes == ()


def test_a_long_event_is_kept_whole(log: AuditLog, stranger: AuditLog) -> None:
    written = log.append("erase", base="b", details={"text": "é" * 60_000})
    following = log.append("restore", base="b")
    assert stranger.events() == (written, following)
    assert stranger.verify().valid


@dataclass(frozen=True)
class Interrupted(Draft):
    """A draft before whose first arrival something else happens."""

    happens: Callable[[AuditEvent], object] = print

    def event(self, sequence: int, previous: str) -> AuditEvent:
        event = Draft(self.values).event(sequence, previous)
        self.happens(event)
        return event


def test_who_comes_second_leaves_a_void_version_and_writes_again(
    log: AuditLog, log_of: Callable[[str], AuditLog]
) -> None:
    first = log.append("init", base="b")
    other = log_of("ben")
    rivals: list[AuditEvent] = []

    def happens(_event: AuditEvent) -> None:
        if not rivals:
            rivals.append(other.append("erase", base="b"))

    written = log.store.add(Interrupted(_values("restore"), happens=happens))
    assert log.events() == (first, rivals[0], written)
    assert (written.sequence, written.previous) == (4, rivals[0].digest)
    report = log.verify()
    assert report.valid
    assert report.notes == (
        "version 3: void: another writer was first at place 2, and the event was written again "
        "later",
    )
    assert log.append("erase", base="b").sequence == 5


def test_an_event_whose_answer_was_lost_is_not_written_twice(
    log: AuditLog, client: MlflowClient
) -> None:
    first = log.append("init", base="b")
    source = client.get_model_version(NAME, "1")

    def happens(event: AuditEvent) -> None:
        insert(client, source, event.to_line())

    written = log.store.add(Interrupted(_values("erase"), happens=happens))
    assert log.events() == (first, written)
    assert log.verify().valid
    following = log.append("restore", base="b")
    assert (following.sequence, following.previous) == (4, written.digest)
    assert log.verify().valid


def _values(action: str) -> dict[str, object]:
    return {
        "actor": "ada",
        "host": "desk",
        "tool_version": "1",
        "action": action,
        "base": "b",
        "concepts": (),
        "reason": "",
        "digests": {},
        "details": {},
    }


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.second_tier)])
def test_eight_writers_at_once_lose_nothing_and_fork_nothing(
    log_of: Callable[[str], AuditLog], count: int
) -> None:
    def append(person: int) -> list[str]:
        log = log_of(f"home {person % 2}")  # four share a lock, and race the others
        return [log.append("erase", base="b", concepts=[str(person)]).digest for _ in range(count)]

    with ThreadPoolExecutor(8) as pool:
        digests = [digest for written in pool.map(append, range(8)) for digest in written]
    log = log_of("reader")
    assert sorted(event.digest for event in log.events()) == sorted(digests)
    report = log.verify()
    assert (report.valid, report.count) == (True, 8 * count)


def test_an_edited_event_is_found(log: AuditLog, client: MlflowClient, stranger: AuditLog) -> None:
    write(log, 4)
    put(client, 2, tag(client, 2).replace("concept 2", "concept X"))
    report = stranger.verify()
    assert report.problems == ("version 2: edited: its content does not match its digest",)


def test_an_event_with_a_new_digest_breaks_the_next_link(
    log: AuditLog, client: MlflowClient, stranger: AuditLog
) -> None:
    events = write(log, 4)
    forged = AuditEvent.create(**_values("erase"), sequence=2, previous=events[0].digest, time="")
    put(client, 2, forged.to_line())
    assert places(stranger.verify()) == [3]
    assert places(log.verify()) == [3]


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_deleted_event_is_found(
    log: AuditLog, client: MlflowClient, stranger: AuditLog, gone: int
) -> None:
    write(log, 4)
    client.delete_model_version(NAME, str(gone))
    report = stranger.verify()
    assert places(report) == [gone, gone + 1]
    assert report.problems[0] == f"version {gone}: deleted: the number is missing"


def test_a_removed_tag_is_found(log: AuditLog, client: MlflowClient, stranger: AuditLog) -> None:
    write(log, 3)
    client.delete_model_version_tag(NAME, "2", EVENT)
    assert places(stranger.verify()) == [2, 3]
    with pytest.raises(IntegrityError, match="version 2"):
        stranger.events()


@pytest.mark.parametrize("pair", [(1, 2), (2, 3), (3, 4), (1, 4)])
def test_exchanged_events_are_found(
    log: AuditLog, client: MlflowClient, stranger: AuditLog, pair: tuple[int, int]
) -> None:
    write(log, 4)
    lines = [tag(client, number) for number in pair]
    for number, line in zip(pair, reversed(lines), strict=True):
        put(client, number, line)
    report = stranger.verify()
    assert pair[0] in places(report)


def test_an_inserted_event_that_continues_an_older_one_is_a_fork(
    log: AuditLog, client: MlflowClient, stranger: AuditLog
) -> None:
    events = write(log, 3)
    own = client.get_model_version(NAME, "3")
    forged = AuditEvent.create(**_values("erase"), sequence=4, previous=events[1].digest, time="9")
    insert(client, own, forged.to_line())
    report = stranger.verify()
    assert places(report) == [4]
    assert "continues version 2 and not the version before" in report.problems[0]


@pytest.mark.parametrize("line", ["", "hello", "{}", "sha256:" + "0" * 64, "sha256:../../x"])
def test_an_inserted_version_that_is_no_event_is_found_and_not_continued(
    log: AuditLog, client: MlflowClient, stranger: AuditLog, line: str
) -> None:
    write(log, 1)
    own = client.get_model_version(NAME, "1")
    insert(client, own, line)
    assert places(stranger.verify()) == [2]
    with pytest.raises(IntegrityError, match="Version 2 of the audit trail is damaged"):
        log.append("erase", base="b")


def test_nothing_continues_an_edited_last_event(log: AuditLog, client: MlflowClient) -> None:
    write(log, 2)
    put(client, 2, tag(client, 2).replace("concept 2", "concept X"))
    with pytest.raises(IntegrityError, match="does not match its digest"):
        log.append("restore", base="b")
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2


def test_what_is_cut_off_the_end_is_missed_by_who_saw_it(
    log: AuditLog, client: MlflowClient, stranger: AuditLog
) -> None:
    events = write(log, 3)
    client.delete_model_version(NAME, "3")
    assert stranger.verify().valid  # a chain alone cannot tell
    assert places(stranger.verify(events[2].digest)) == [3]
    report = log.verify()
    assert places(report) == [3]
    assert "what this computer saw earlier" in report.problems[0]


def test_a_chain_that_was_deleted_and_begun_anew_is_noticed(
    log: AuditLog, client: MlflowClient, log_of: Callable[[str], AuditLog]
) -> None:
    write(log, 3)
    checkpoint = log.checkpoint()
    client.delete_registered_model(NAME)
    write(log_of("mallory"), 4)
    report = log.verify()
    assert places(report) == [3]
    assert "rewritten, here or before" in report.problems[0]
    report = log_of("auditor").verify(checkpoint=checkpoint)
    assert report.problems[0].startswith("checkpoint: it is of another chain")


def test_a_damaged_note_of_what_was_seen_is_as_good_as_none(log: AuditLog, tmp_path: Path) -> None:
    write(log, 1)
    (note,) = (tmp_path / "ada" / "audit").glob("head-*.json")
    assert json.loads(note.read_text())["sequence"] == 1
    note.write_text("{")
    assert log.verify().valid


def test_the_actor_is_who_the_server_knows(server: Server, tmp_path: Path) -> None:
    workspace = open_workspace(Settings(tmp_path, "miniature", server.uri))
    assert workspace.audit.append("init", base="b").actor == "admin"


class Open(BaseHTTPRequestHandler):
    """A server that lets everybody in."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_name_that_no_server_checks_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    with HTTPServer(("127.0.0.1", 0), Open) as nobody:
        Thread(target=nobody.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{nobody.server_port}"
        assert account(uri) is None
        nobody.shutdown()
    assert account("sqlite:///x") is None
