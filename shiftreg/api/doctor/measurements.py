"""Are stored reports and the marks of exports what was measured, as the audit trail has it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shiftreg.api.doctor.findings import Finding, damage
from shiftreg.api.trail.measurements import ACTIONS, contradictions, recorded, subject_of
from shiftreg.audit import AuditEvent
from shiftreg.errors import ShiftregError
from shiftreg.registry import CompositionVersion, Registry
from shiftreg.registry.compositions import mark_of
from shiftreg.registry.examination import Examined
from shiftreg.registry.records import Measurement


def measurement_findings(
    registry: Registry,
    base: str,
    stored: Mapping[str, Sequence[Measurement]],
    own: Sequence[AuditEvent],
) -> Iterator[Finding]:
    """Examines every stored report of a base, and every event of one.

    Args:
        stored: Kind -> the measurements of the base, oldest first.
    """
    for kind, measurements in stored.items():
        events = recorded(own, base, kind)
        matched = match_measurements(measurements, events)
        for measurement in measurements:
            yield from _report(registry, measurement)
            yield from _story(measurement, matched.get(measurement.run_id))
        left = list(events)
        for event in matched.values():
            left.remove(event)
        if left:
            deleted = registry.measurements.all(base, kind, deleted=True)
            for event in left:
                yield _missing(kind, event, list(matched.values()), deleted)


def match_measurements(
    measurements: Sequence[Measurement], events: Sequence[AuditEvent]
) -> dict[str, AuditEvent]:
    """Which event is of which run: the same report may be written more than once.

    Returns:
        Run -> the event that has it as it is, or else one that has its report's digest.
    """
    left = list(events)
    matched: dict[str, AuditEvent] = {}
    for is_exact in (True, False):
        for one in measurements:
            if one.run_id in matched:
                continue
            for event in left:
                is_same = event.digests["report"] == one.report_digest
                if is_same and not (is_exact and contradictions(event, one)):
                    matched[one.run_id] = event
                    left.remove(event)
                    break
    return matched


def _report(registry: Registry, measurement: Measurement) -> Iterator[Finding]:
    try:
        registry.measurements.download(measurement)
    except ShiftregError as error:
        yield damage(
            _name(measurement),
            f"Its report is not the registered one: {error}",
            f"Put the file of run {measurement.run_id} back from a backup, or delete that run in "
            f"MLflow and measure again: shiftreg {ACTIONS[measurement.kind]}",
        )


def _story(measurement: Measurement, event: AuditEvent | None) -> Iterator[Finding]:
    if event is None:
        yield damage(
            _name(measurement),
            "The audit trail does not know its report: the report was replaced, or recorded past "
            "shiftreg, or the trail was cut. It is not believed.",
            "Put the run back from a backup, or delete it in MLflow and measure again: shiftreg "
            f"{ACTIONS[measurement.kind]}. Compare the trail with a checkpoint of it: shiftreg "
            "audit verify",
        )
    elif tags := contradictions(event, measurement):
        yield damage(
            _name(measurement),
            f"Its tags {', '.join(f'shiftreg.{tag}' for tag in tags)} say something else than "
            f"event {event.sequence} of the audit trail: they were edited. It is not believed.",
            f"Undo the change of the tags of run {measurement.run_id} in MLflow.",
        )


def _missing(
    kind: str, event: AuditEvent, kept: Sequence[AuditEvent], deleted: Sequence[Measurement]
) -> Finding:
    """Says that a report is gone; where it was measured again since, nothing is missing now."""
    digest = event.digests["report"]
    run = next((one.run_id for one in deleted if one.report_digest == digest), "")
    restore = (
        f"Restore the run {run} in MLflow"
        if run
        else "Restore the registry from a backup (its run was changed, or removed for good)"
    )
    later = [one for one in kept if one.sequence > event.sequence]
    again = subject_of(event) in map(subject_of, later)
    return Finding(
        "note" if again else "damage",
        f"{kind} of event {event.sequence}",
        f"The audit trail says that report {digest[:12]} was recorded (event {event.sequence}), "
        "and no run in MLflow has it"
        + (", but the same was measured again since." if again else "."),
        f"{restore}." if again else f"{restore}, or measure again: shiftreg {event.action}",
    )


def _name(measurement: Measurement) -> str:
    return f"{measurement.kind} of run {measurement.run_id[:12]}"


def mark_findings(
    entries: Sequence[Examined[CompositionVersion]],
    verifications: Sequence[Measurement],
    own: Sequence[AuditEvent],
) -> Iterator[Finding]:
    """Examines the outcome of the last verification, as every export of a base says it."""
    for entry in entries:
        if (composition := entry.record) is None:
            continue
        if problem := _problem(composition, verifications, own):
            yield damage(
                composition.export_path or f"composition {composition.version}",
                f"{problem}: its tag shiftreg.verification was edited.",
                "Undo the change in MLflow, or verify the file again: shiftreg verify FILE",
            )


def _problem(
    composition: CompositionVersion, verifications: Sequence[Measurement], own: Sequence[AuditEvent]
) -> str:
    mark, export = composition.verification, composition.export_digest
    events = [
        event
        for event in recorded(own, composition.base, "verification")
        if export and event.digests.get("export") == export
    ]
    if not events:
        return "It claims a verification that the audit trail does not know" if mark else ""
    last = events[-1]
    if not mark:
        # The same content may have been verified before it was exported to this place.
        exported = [e.sequence for e in own if e.digests.get("record") == composition.record_digest]
        is_later = bool(exported) and last.sequence > min(exported)
        return f"It lacks its verification, event {last.sequence}" if is_later else ""
    passed = last.details.get("passed")
    stored = [one for one in verifications if one.report_digest == last.digests["report"]]
    expected = [mark_of(one) | {"passed": passed} for one in stored]
    # Where the run itself is gone, that is said of the run.
    is_same = mark in expected if expected else mark.get("passed") == passed
    return "" if is_same else f"It says something else than its verification, event {last.sequence}"
