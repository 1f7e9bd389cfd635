"""Are the shifts what they were registered as, and does the audit trail have their story?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from shiftreg.api.doctor.findings import Finding, damage, unreadable
from shiftreg.api.workspace import MADE, active_versions, deleted_versions
from shiftreg.audit import AuditEvent
from shiftreg.checkpoints import load_shift
from shiftreg.errors import ShiftregError
from shiftreg.registry import Registry, ShiftVersion
from shiftreg.registry.examination import Examined


def made_versions(own: Iterable[AuditEvent]) -> dict[tuple[str, object], AuditEvent]:
    """Concept and number of each version that was made -> the last event that says so."""
    made = (event for event in own if event.action in MADE)
    return {(event.concepts[0], event.details.get("version")): event for event in made}


def shift_findings(
    registry: Registry, entries: Sequence[Examined[ShiftVersion]], own: Sequence[AuditEvent]
) -> Iterator[Finding]:
    """Examines every version of every shift of a base, by the base's own events."""
    made = made_versions(event for event in own if "shift" in event.digests)
    twins = copies(entries, own)
    for entry in entries:
        if entry in twins:
            yield Finding(
                "leftover",
                f"{entry.name} version {entry.number}",
                "It is a copy of another version: a request whose answer was lost was sent again.",
                "Take it away: shiftreg doctor --repair",
            )
            continue
        if (version := entry.record) is None:
            yield unreadable(entry)
            continue
        yield from _content(registry, version)
        if not registry.examination.is_run_kept(version.run_id):
            yield damage(
                version.reference,
                "Its run was deleted in MLflow, and a cleanup there would take its file.",
                f"Restore the run {version.run_id} in MLflow.",
            )
        yield from _story(version, made.get((version.concept, version.version)))
    deleted = deleted_versions(own, own[0].base) if own else {}
    gone = {(concept, number) for concept, numbers in deleted.items() for number in numbers}
    yield from _missing(entries, {key: event for key, event in made.items() if key not in gone})
    yield from _activity([e.record for e in entries if e.record], own)


def copies(
    entries: Sequence[Examined[ShiftVersion]], own: Sequence[AuditEvent]
) -> list[Examined[ShiftVersion]]:
    """Inactive versions that one request made twice, and of which the audit trail knows another."""
    known = made_versions(own)

    def is_known(entry: Examined[ShiftVersion]) -> bool:
        version = entry.record
        return version is not None and (version.concept, version.version) in known

    attempts = {entry.attempt for entry in entries if is_known(entry)} - {""}
    return [
        entry
        for entry in entries
        if entry.attempt in attempts
        and not is_known(entry)
        and entry.record is not None
        and not entry.record.active
    ]


def _content(registry: Registry, version: ShiftVersion) -> Iterator[Finding]:
    """Is the file the one that was registered, and do the tags say what it says?"""
    again = f"Put the file back from a backup, or erase '{version.concept}' again."
    try:
        shift = load_shift(registry.shifts.download(version))
    except ShiftregError as error:
        yield damage(version.reference, str(error), again)
        return
    if shift.digest != version.digest:
        yield damage(
            version.reference,
            f"Its file holds shift {shift.digest[:12]}, and {version.digest[:12]} was registered.",
            again,
        )
        return
    said = (version.concept, version.method, set(version.aliases), set(version.protected))
    held = (shift.concept, shift.method, set(shift.aliases), set(shift.protected))
    names = ("concept", "method", "aliases", "protected prompts")
    for name, tag, value in zip(names, said, held, strict=True):
        if tag != value:
            yield damage(
                version.reference,
                f"Its {name} in MLflow are not those of its file.",
                f"Undo the change of the version's tags in MLflow, or erase '{version.concept}' "
                "again.",
            )


def _story(version: ShiftVersion, event: AuditEvent | None) -> Iterator[Finding]:
    if event is None:
        yield damage(
            version.reference,
            "The audit trail does not know it: it was made past shiftreg, or the trail was cut.",
            "Compare the trail with a checkpoint of it: shiftreg audit verify. If the version is "
            "yours, say so: shiftreg doctor --repair",
        )
    elif event.digests["shift"] != version.digest:
        yield damage(
            version.reference,
            f"It is shift {version.digest[:12]}, and the audit trail says that "
            f"{event.digests['shift'][:12]} was registered: it was deleted and made again.",
            "Restore the registry from a backup.",
        )
    elif event.digests.get("record", version.record_digest) != version.record_digest:
        yield damage(
            version.reference,
            "Its record in MLflow was edited since it was registered (reason, actor, metrics, "
            "time or another tag).",
            f"Undo the change of its tags in MLflow; event {event.sequence} of the audit trail "
            "has the reason.",
        )


def _missing(
    entries: Sequence[Examined[ShiftVersion]], made: dict[tuple[str, object], AuditEvent]
) -> Iterator[Finding]:
    known = {(e.record.concept, e.record.version) for e in entries if e.record}
    unreadable = any(entry.record is None for entry in entries)
    for (concept, number), event in made.items():
        if (concept, number) not in known and not unreadable:
            yield damage(
                f"{concept}@{number}",
                f"The audit trail says that it was registered (event {event.sequence}), and it is "
                "gone: it was deleted in MLflow.",
                "Restore the registry from a backup; exports that hold it can no longer be "
                "verified.",
            )


def _activity(versions: Sequence[ShiftVersion], events: Sequence[AuditEvent]) -> Iterator[Finding]:
    """Is active what was made active last?"""
    last = active_versions(events)
    active = {v.concept: (v.version, v.digest) for v in versions if v.active}
    for concept in sorted({version.concept for version in versions} & last.keys()):
        now, then = (
            f"version {one[0]} is active" if one else "no version is active"
            for one in (active.get(concept), last[concept])
        )
        if now != then:  # another digest is another finding
            yield damage(
                concept,
                f"In the registry {now}, and by the audit trail {then}.",
                f"Decide which is right: shiftreg erase '{concept}@VERSION' makes one active, "
                f"shiftreg restore '{concept}' none.",
            )
