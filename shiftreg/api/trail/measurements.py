"""Measurements that the audit trail knows as they are: no others are to be believed.

Whoever can write MLflow's files and tags can replace a report together with its registered digest.
The trail holds the digest of every report that was measured, and what it was measured on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditEvent
from shiftreg.registry.records import Measurement

ACTIONS = {
    "verification": "verify",
    "evaluation": "evaluate",
    "attack": "attack",
    "report": "report",
}
"""Kind of a measurement -> the action of its event."""


@dataclass(frozen=True)
class OnRecord:
    """The measurements of one kind, and which of them to believe.

    Attributes:
        known: The audit trail has them as they are; oldest first.
        doubted: It does not: they were changed, or recorded past shiftreg.
        lost: The events of those that were made last of what they measured, and are not known:
            what was measured before them is not the last word.
    """

    known: tuple[Measurement, ...]
    doubted: tuple[Measurement, ...]
    lost: tuple[AuditEvent, ...]


def on_record(workspace: Workspace, base: str, kind: str) -> OnRecord:
    """Reads the measurements of a base, and which of them the audit trail knows.

    Args:
        kind: "verification", "evaluation", "attack" or "report".

    Returns:
        The measurements; a trail that cannot be read knows none.
    """
    # Before the events: what is being recorded meanwhile has its event later than its run.
    measurements = workspace.registry.measurements.all(base, kind)
    events = recorded(workspace.audit.readable_events(), base, kind)
    known = [one for one in measurements if any(matches(event, one) for event in events)]
    doubted = [one for one in measurements if one not in known]
    last = {subject_of(event): event for event in events}
    lost = [
        event for event in last.values() if not any(matches(event, one) for one in measurements)
    ]
    return OnRecord(tuple(known), tuple(doubted), tuple(lost))


def stored_report(workspace: Workspace, measurement: Measurement) -> Any:
    """What the report of a measurement says, JSON values.

    Raises:
        IntegrityError: The file is missing or was changed.
        ValueError: It is not JSON.
    """
    path = workspace.registry.measurements.download(measurement)
    return json.loads(path.read_text(encoding="utf-8"))


def recorded(events: Iterable[AuditEvent], base: str, kind: str) -> tuple[AuditEvent, ...]:
    """The events of a base's measurements of a kind, oldest first."""
    action = ACTIONS[kind]
    return tuple(
        e for e in events if (e.action, e.base) == (action, base) and "report" in e.digests
    )


def matches(event: AuditEvent, measurement: Measurement) -> bool:
    """Whether an event of that kind is of this report, and of its record as it is."""
    is_same = event.digests["report"] == measurement.report_digest
    return is_same and not contradictions(event, measurement)


def subject_of(event: AuditEvent) -> tuple[object, ...]:
    """What was measured: composition, exported file and concepts."""
    digests = event.digests
    return digests.get("composition"), digests.get("export"), event.concepts


def contradictions(event: AuditEvent, measurement: Measurement) -> tuple[str, ...]:
    """The tags of a measurement that say something else than the event."""
    digests, details = event.digests, event.details
    said = {
        "digest": (measurement.digest, digests.get("composition", "")),
        "export_digest": (measurement.export_digest, digests.get("export", "")),
        "concept": (
            measurement.concept,
            ", ".join(event.concepts) if measurement.kind == "attack" else "",
        ),
        "passed": (measurement.passed, details.get("passed")),
    }
    return tuple(name for name, (tag, value) in said.items() if tag != value)


def doubt(measurements: Iterable[Measurement]) -> str:
    """Says which measurements are not believed; "" for none."""
    named = [f"{one.kind} {one.run_id[:12]}" for one in measurements]
    if not named:
        return ""
    return (
        f"Not believed, since the audit trail does not know it as it is: {', '.join(named)}. "
        "See: shiftreg doctor"
    )
