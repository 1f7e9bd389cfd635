"""Examining a whole registry: database, audit trail, bases, and all that is registered of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from shiftreg.api.doctor.exports import export_findings
from shiftreg.api.doctor.findings import Diagnosis, Finding, damage
from shiftreg.api.doctor.measurements import mark_findings, measurement_findings
from shiftreg.api.doctor.repair import (
    left_files,
    left_runs,
    leftover_findings,
    put_in_order,
    record_findings,
    written_folders,
)
from shiftreg.api.doctor.shifts import shift_findings
from shiftreg.api.loaded_base import base_folder
from shiftreg.api.trail.measurements import ACTIONS
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditEvent
from shiftreg.checkpoints import folder_digest
from shiftreg.errors import NotFoundError, ShiftregError
from shiftreg.registry import BaseRecord, Registry
from shiftreg.registry.examination import Examined

ORDER = ("damage", "leftover", "note")


def examine_registry(
    workspace: Workspace,
    *,
    repair: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> Diagnosis:
    """Examines everything that is registered: files, records, the audit trail, and their agreement.

    Args:
        repair: Remove what interrupted commands left, and record the versions and exports that
            the audit trail does not know. Nothing else is changed.
        reason: For the audit trail, of a repair.

    Returns:
        The findings; of a repair, those that remain, and what was done.

    Raises:
        StorageError: The registry cannot be opened at all.
    """
    diagnosis = _examined(workspace, observe)
    if not repair:
        return diagnosis
    with workspace.registry.lock():  # what is active must not change while it is recorded
        done = tuple(put_in_order(workspace, reason))
    return replace(_examined(workspace, observe), repaired=done) if done else diagnosis


def _examined(workspace: Workspace, observe: Observer) -> Diagnosis:
    registry = workspace.registry
    findings: list[Finding] = []
    if problem := registry.examination.database_damage():
        findings.append(
            damage(
                "the database",
                f"SQLite finds it damaged: {problem}.",
                "Put a backup in its place; `sqlite3 FILE .recover` may save the rest.",
            )
        )
    events, trail = _trail(workspace)
    findings += trail
    bases = registry.examination.bases()
    findings += _lost_bases([base.name for base in bases], events)
    examined = {"events": len(events), "bases": len(bases)}
    examined |= dict.fromkeys(("versions", "exports", "reports"), 0)
    for number, base in enumerate(bases):
        observe(Progress(f"examining {base.name}", number, len(bases)))
        own = [event for event in events if event.base == base.name]
        versions = registry.examination.shifts(base.name)
        exports = registry.examination.compositions(base.name)
        reports = {kind: registry.measurements.all(base.name, kind) for kind in ACTIONS}
        findings += _base(registry, base, own)
        findings += shift_findings(registry, versions, own)
        findings += export_findings(registry, exports, versions, own)
        findings += measurement_findings(registry, base.name, reports, own)
        findings += mark_findings(exports, reports["verification"], own)
        findings += leftover_findings(left_runs(registry, base.name), ())
        examined["versions"] += len(versions)
        examined["exports"] += len(exports)
        examined["reports"] += sum(map(len, reports.values()))
    findings += leftover_findings((), left_files(written_folders(workspace, bases)))
    findings += record_findings(workspace.write_ahead)
    observe(Progress("examining", len(bases), len(bases)))
    return Diagnosis(
        healthy=not any(finding.severity == "damage" for finding in findings),
        bases=tuple(base.name for base in bases),
        examined=examined,
        findings=tuple(sorted(findings, key=lambda finding: ORDER.index(finding.severity))),
    )


def _trail(workspace: Workspace) -> tuple[tuple[AuditEvent, ...], list[Finding]]:
    """The events, as far as they can be read, and what is wrong with them."""
    report = workspace.audit.verify()
    findings = [
        damage(
            "the audit trail",
            problem[:1].upper() + problem[1:] + ".",
            "Keep it as evidence, and put a copy that verifies in its place: shiftreg audit verify",
        )
        for problem in report.problems
    ]
    try:
        return workspace.audit.events(), findings
    except ShiftregError:
        return (), findings


def _base(
    registry: Registry, entry: Examined[BaseRecord], own: Sequence[AuditEvent]
) -> Iterator[Finding]:
    """One base, by its own events: its weights on this machine, and its record."""
    subject = f"base {entry.name}"
    run = registry.examination.base_run(entry.name)
    if not registry.examination.is_run_kept(run):
        yield damage(
            subject,
            "The run with its record was deleted in MLflow, and a cleanup there would take it.",
            f"Restore the run {run} in MLflow, or register the base again: shiftreg init",
        )
    if (base := entry.record) is None:
        yield damage(
            subject,
            entry.problem,
            "Put its record back from a backup, or register the base again with the same options: "
            "shiftreg init",
        )
        return
    yield from _story(base, own)
    yield from _weights(base)


def _lost_bases(names: Collection[str], events: Sequence[AuditEvent]) -> Iterator[Finding]:
    """The bases that the audit trail knows and the registry does not have."""
    # Others may name a base in passing, as the settings do.
    registered = {event.base: event for event in events if event.action == "init" and event.base}
    for name in sorted(registered.keys() - set(names)):
        yield damage(
            f"base {name}",
            f"The audit trail says that it was registered (event {registered[name].sequence}), and "
            "the registry has no record of it: its experiment was deleted or changed in MLflow. "
            "None of its shifts and exports can be examined.",
            f"Restore the experiment '{name}' and its tags in MLflow, or the registry from a "
            "backup.",
        )


def _story(base: BaseRecord, own: Sequence[AuditEvent]) -> Iterator[Finding]:
    subject = f"base {base.name}"
    events = [event for event in own if event.action == "init"]
    if not events:
        yield damage(
            subject,
            "The audit trail does not know it: it was registered past shiftreg, or the trail was "
            "cut.",
            "Compare the trail with a checkpoint of it: shiftreg audit verify. If the base is "
            "yours, register it again: shiftreg init",
        )
    elif events[-1].digests.get("record", base.record_digest) != base.record_digest:
        yield damage(
            subject,
            f"Its record was edited since it was registered (event {events[-1].sequence}).",
            "Register it again: shiftreg init",
        )


def _weights(base: BaseRecord) -> Iterator[Finding]:
    subject = f"base {base.name}"
    try:
        folder = base_folder(base.source)
        digest = folder_digest(folder)
    except NotFoundError as error:
        yield Finding(
            "note",
            subject,
            f"Its weights are not on this machine: {error}",
            f"Put them back to '{base.source}' to erase, compose or verify here.",
        )
        return
    except ShiftregError as error:
        yield damage(subject, str(error), "Put the whole folder back from a backup.")
        return
    if digest != base.digest:
        yield damage(
            subject,
            f"The weights in '{folder}' have digest {digest[:12]}, and {base.digest[:12]} was "
            "registered: they were changed.",
            "Put the folder back from a backup, or register the changed one under another name.",
        )
