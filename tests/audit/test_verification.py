from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.audit import (
    GENESIS,
    AuditEvent,
    AuditLog,
    AuditReport,
    Contents,
    Entry,
    FileEvents,
    verification,
)
from shiftreg.audit.file_events import read_lines

COUNT = 6


def chain(count: int, salt: str = "") -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for number in range(1, count + 1):
        events.append(
            AuditEvent.create(
                sequence=number,
                time=f"2026-01-01T00:00:0{number}+00:00",
                actor="someone",
                host="somewhere",
                tool_version="1",
                action="erase",
                base="miniature",
                concepts=(f"concept {number}{salt}", "é"),
                reason="complaint",
                digests={"shift": "ab" * 32},
                details={"n": number},
                previous=events[-1].digest if events else GENESIS,
            )
        )
    return events


LINES = [event.to_line().encode() for event in chain(COUNT)]


def verify_chain(content: bytes, expected_head: str | None = None) -> AuditReport:
    known = [verification.Known(expected_head)] if expected_head else []
    return verification.verify_chain(read_lines(content), known)


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def reported_lines(content: bytes, expected_head: str | None = None) -> list[int]:
    report = verify_chain(content, expected_head)
    assert report.valid == (not report.problems)
    return [int(problem.removeprefix("line ").split(":")[0]) for problem in report.problems]


def test_an_untouched_chain_is_valid() -> None:
    report = verify_chain(joined(LINES))
    assert report.valid
    assert report.count == COUNT
    assert report.problems == ()


@given(st.data())
def test_any_changed_byte_is_found_at_its_line(data: st.DataObject) -> None:
    content = bytearray(joined(LINES))
    position = data.draw(st.integers(0, len(content) - 2))
    content[position] ^= data.draw(st.integers(1, 255))
    line = bytes(joined(LINES)[:position]).count(b"\n") + 1
    assert line in reported_lines(bytes(content))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", 99),
        ("time", "2020-01-01T00:00:00+00:00"),
        ("actor", "nobody"),
        ("concepts", ["other"]),
        ("reason", ""),
        ("digests", {}),
        ("details", {"n": 2.0}),
        ("base", "other"),
    ],
)
def test_an_edited_field_is_found(name: str, value: object) -> None:
    edited = json.loads(LINES[2]) | {name: value}
    lines = list(LINES)
    lines[2] = json.dumps(
        edited, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    problems = verify_chain(joined(lines)).problems
    assert any(problem.startswith("line 3: edited") for problem in problems)


@pytest.mark.parametrize("name", ["previous", "digest", "concepts", "sequence", "details"])
@pytest.mark.parametrize("value", [None, [], {}, "x", 1, True, [[1]]])
def test_fields_of_any_type_are_reported_and_not_raised(name: str, value: object) -> None:
    lines = list(LINES)
    lines[2] = json.dumps(json.loads(LINES[2]) | {name: value}).encode()
    assert 3 in reported_lines(joined(lines))


def test_an_edit_with_a_fresh_digest_breaks_the_next_link() -> None:
    lines = list(LINES)
    lines[2] = chain(3, salt="forged")[2].to_line().encode()
    assert set(reported_lines(joined(lines))) == {3, 4}


@given(st.integers(0, COUNT - 2), st.integers(1, COUNT))
def test_deleted_events_are_found_where_they_are_missing(start: int, count: int) -> None:
    lines = LINES[:start] + LINES[start + count :]
    if start + count >= COUNT:
        assert reported_lines(joined(lines)) == []  # The end: see the expected head below.
    else:
        assert reported_lines(joined(lines)) == [start + 1]
        assert "deleted" in verify_chain(joined(lines)).problems[0]


@given(st.permutations(LINES))
def test_reordered_events_are_found(lines: list[bytes]) -> None:
    report = verify_chain(joined(lines))
    assert report.valid == (lines == LINES)
    assert report.count == COUNT


@given(st.integers(0, COUNT), st.integers(0, COUNT - 1))
def test_a_copied_event_is_found_at_its_line(position: int, source: int) -> None:
    lines = list(LINES)
    lines.insert(position, LINES[source])
    found = reported_lines(joined(lines))
    assert found
    assert any(line in (position + 1, source + 2) for line in found)


@given(st.integers(0, COUNT), st.binary(max_size=40))
def test_an_inserted_line_of_anything_is_found(position: int, line: bytes) -> None:
    lines = list(LINES)
    lines.insert(position, line.replace(b"\n", b""))
    assert reported_lines(joined(lines)) == [position + 1]


@given(st.integers(1, COUNT - 1))
def test_a_fork_is_found_where_it_begins(shared: int) -> None:
    other = chain(COUNT, salt="x")
    branch = AuditEvent.create(
        **{
            name: getattr(other[shared], name)
            for name in AuditEvent.__dataclass_fields__
            if name not in ("digest", "previous")
        },
        previous=chain(shared)[-1].digest,
    )
    lines = [*LINES, branch.to_line().encode()]
    assert reported_lines(joined(lines)) == [COUNT + 1]
    assert f"continues line {shared}" in verify_chain(joined(lines)).problems[0]


def test_a_second_beginning_is_found() -> None:
    lines = [*LINES, chain(1, salt="x")[0].to_line().encode()]
    assert "the beginning of the log" in verify_chain(joined(lines)).problems[0]


@given(st.integers(1, len(LINES[-1])))
def test_a_torn_last_line_is_found(missing: int) -> None:
    content = joined(LINES)[:-missing]
    assert reported_lines(content) == [COUNT]
    assert "torn" in verify_chain(content).problems[0]


def test_a_wrong_sequence_in_a_sound_chain_is_found() -> None:
    first = chain(1)[0]
    values = {n: getattr(first, n) for n in AuditEvent.__dataclass_fields__ if n != "digest"}
    second = AuditEvent.create(**values | {"sequence": 5, "previous": first.digest})
    content = joined([first.to_line().encode(), second.to_line().encode()])
    assert verify_chain(content).problems == ("line 2: event 5 where event 2 was expected",)


@given(st.integers(0, COUNT - 1))
def test_an_expected_head_shows_what_was_cut_off_the_end(kept: int) -> None:
    head = chain(COUNT)[-1].digest
    assert verify_chain(joined(LINES[:kept])).valid
    report = verify_chain(joined(LINES[:kept]), expected_head=head)
    assert not report.valid
    assert "missing at the end" in report.problems[0]


def test_an_expected_head_shows_a_log_that_was_rewritten() -> None:
    rewritten = joined([event.to_line().encode() for event in chain(COUNT, salt="x")])
    assert verify_chain(rewritten).valid
    assert not verify_chain(rewritten, expected_head=chain(COUNT)[-1].digest).valid


@given(st.integers(1, COUNT))
def test_a_log_may_grow_after_the_head_was_noted(noted: int) -> None:
    assert verify_chain(joined(LINES), expected_head=chain(noted)[-1].digest).valid


@given(st.binary(max_size=200))
def test_no_content_makes_verification_raise(content: bytes) -> None:
    report = verify_chain(content)
    assert report.valid == (content == b"")


def test_the_log_passes_its_file_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(joined(LINES[:2] + LINES[3:]))
    report = AuditLog(FileEvents(path)).verify()
    assert not report.valid
    assert report.problems[0].startswith("line 3")


VOID = 4


def claimed(lines: list[bytes]) -> Contents:
    """A store whose places are taken before it is known by whom, as a server's are."""
    return Contents(
        "trail", tuple(Entry(n, line) for n, line in enumerate(lines, 1)), "version", True
    )


def raced_chain() -> list[bytes]:
    """Six places: the fourth is void, since its writer had expected the third."""
    events = chain(3)
    void = sealed_at(3, events[1].digest, "void")
    fifth = sealed_at(5, events[2].digest, "fifth")
    return [e.to_line().encode() for e in (*events, void, fifth, sealed_at(6, fifth.digest, "end"))]


def sealed_at(sequence: int, previous: str, reason: str) -> AuditEvent:
    first = chain(1)[0]
    values = {n: getattr(first, n) for n in AuditEvent.__dataclass_fields__ if n != "digest"}
    time = f"2026-01-01T00:00:0{sequence}+00:00"
    changes = {"sequence": sequence, "previous": previous, "reason": reason, "time": time}
    return AuditEvent.create(**values | changes)


RACED = raced_chain()


def found(contents: Contents) -> list[int]:
    problems = verification.verify_chain(contents).problems
    return [int(problem.removeprefix("version ").split(":")[0]) for problem in problems]


def test_a_void_place_is_a_note_and_no_event() -> None:
    report = verification.verify_chain(claimed(RACED))
    assert (report.valid, report.count, report.sequence) == (True, 5, 6)
    assert [note.split(":")[0] for note in report.notes] == [f"version {VOID}"]


@given(st.integers(0, len(RACED) - 1), st.data())
def test_any_changed_byte_of_a_claimed_place_is_found(index: int, data: st.DataObject) -> None:
    line = bytearray(RACED[index])
    position = data.draw(st.integers(0, len(line) - 1))
    line[position] ^= data.draw(st.integers(1, 255))
    lines = list(RACED)
    lines[index] = bytes(line)
    assert index + 1 in found(claimed(lines))


@given(st.sets(st.integers(1, len(RACED) - 1), min_size=1))
def test_deleted_places_are_found_by_their_numbers(gone: set[int]) -> None:
    contents = claimed(RACED)
    left = tuple(entry for entry in contents.entries if entry.number not in gone)
    assert gone <= set(found(replace(contents, entries=left)))


@given(st.permutations(RACED))
def test_reordered_places_are_found(lines: list[bytes]) -> None:
    assert verification.verify_chain(claimed(lines)).valid == (lines == RACED)


@given(st.integers(0, len(RACED) - 3), st.one_of(st.binary(max_size=40), st.sampled_from(RACED)))
def test_an_inserted_place_moves_what_follows_and_is_found(index: int, line: bytes) -> None:
    assert found(claimed([*RACED[:index], line, *RACED[index:]]))


@given(st.integers(0, len(RACED) - 1))
def test_what_takes_the_last_place_from_the_last_event_is_missed_by_its_head(copied: int) -> None:
    # As if a writer had been second and had not come back: the chain alone cannot tell.
    contents = claimed([*RACED[:-1], RACED[copied], RACED[-1]])
    head = verification.Known(AuditEvent.from_line(RACED[-1]).digest)
    report = verification.verify_chain(contents, [head])
    assert report.valid == (copied == len(RACED) - 1)


@given(st.integers(1, len(RACED) - 1))
def test_a_fork_of_claimed_places_is_found(shared: int) -> None:
    previous = AuditEvent.from_line(RACED[shared - 1]).digest
    branch = sealed_at(len(RACED) + 1, previous, "branch")
    assert found(claimed([*RACED, branch.to_line().encode()])) == [len(RACED) + 1]
