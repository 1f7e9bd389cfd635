"""Stored verifications and attacks, as far as they are about one concept."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

from shiftreg.api.trail.measurements import on_record, stored_report
from shiftreg.api.workspace import Workspace
from shiftreg.attacks.results import AttackReport
from shiftreg.checks import Check
from shiftreg.concepts import mentions
from shiftreg.errors import IntegrityError
from shiftreg.registry.records import Measurement
from shiftreg.reports import Note, read_report
from shiftreg.reports.numbers import check_schema, moment

MOST_CHECKS = 40
Part = TypeVar("Part")


@dataclass(frozen=True)
class VerificationLine:
    """One stored verification.

    Attributes:
        measurement: Its record.
        state: The concept's in it: "erased" or "generates".
        checks: Those about the concept.
    """

    measurement: Measurement
    state: str
    passed: bool
    checks: tuple[Check, ...]


def verification_lines(
    workspace: Workspace, concept: str
) -> tuple[tuple[VerificationLine, ...], tuple[Note, ...]]:
    """All stored verifications that knew the concept, oldest first, and what to say besides."""
    stored = on_record(workspace, workspace.base.name, "verification")
    read = [
        read_stored(workspace, one, partial(_verification, one, concept)) for one in stored.known
    ]
    found = tuple(line for line, _ in read if line)
    notes = (*(note for _, notes in read for note in notes), *_doubts(stored.doubted))
    if not any(line.state == "erased" for line in found):
        text = "No verification of a model without it is on record. Make one:"
        notes += (Note(text, "shiftreg verify"),)
    if not any(line.state == "generates" for line in found):
        text = "No verification of a model that generates it is on record. Make one:"
        notes += (Note(text, f"shiftreg verify --without {shlex.quote(concept)}"),)
    return found, notes


def attack_parts(
    workspace: Workspace, concept: str
) -> tuple[tuple[AttackReport, ...], tuple[Note, ...]]:
    """The latest attacks on the concept in each composition, and what to say if there are none."""
    stored = on_record(workspace, workspace.base.name, "attack")
    latest = {one.digest: one for one in stored.known if one.concept == concept}
    doubts = _doubts(one for one in stored.doubted if one.concept == concept)
    if not latest:
        command = f"shiftreg attack {shlex.quote(concept)}"
        return (), (*doubts, Note("No attack on it is on record. Make one:", command))
    reader = partial(read_report, AttackReport)
    read = [read_stored(workspace, one, reader) for one in latest.values()]
    notes = (*(note for _, notes in read for note in notes), *doubts)
    return tuple(part for part, _ in read if part), notes


def _doubts(measurements: Iterable[Measurement]) -> tuple[Note, ...]:
    """Notes on reports that the audit trail does not know, and that are not shown."""
    return tuple(
        Note(
            f"The {one.kind} of {moment(one.created)} is not shown: the audit trail does not know "
            "it as it is now. Examine it:",
            "shiftreg doctor",
        )
        for one in measurements
    )


def read_stored(
    workspace: Workspace,
    measurement: Measurement,
    read: Callable[[Mapping[str, Any]], Part],
    command: str = "",
) -> tuple[Part | None, tuple[Note, ...]]:
    """A stored report, or what is wrong with it: that must not keep a page from being made.

    Args:
        command: Makes a new one; it ends the note.
    """
    try:
        document = stored_report(workspace, measurement)
        check_schema(document)
        return read(document), ()
    except (IntegrityError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"The {measurement.kind} of {moment(measurement.created)} cannot be shown: {error}"
        return None, (Note(f"{text}. Make a new one:" if command else text, command),)


def _verification(
    measurement: Measurement, concept: str, document: Mapping[str, Any]
) -> VerificationLine | None:
    """One report, if it knew the concept."""
    state = document["plan"]["states"].get(concept)
    if state is None:
        return None
    checks = tuple(_checks(document, concept))[:MOST_CHECKS]
    return VerificationLine(measurement, str(state), bool(document["passed"]), checks)


def _checks(document: Mapping[str, Any], concept: str) -> Iterator[Check]:
    names = {field.name for field in fields(Check)}
    for values in document["checks"]:
        if mentions(str(values["subject"]), (concept,)):
            yield Check(**{key: value for key, value in values.items() if key in names})
