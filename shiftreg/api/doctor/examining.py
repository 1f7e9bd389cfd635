"""Examining a whole registry, and putting in order what can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shiftreg.api.doctor.bases import base_findings, lost_bases
from shiftreg.api.doctor.exports import export_findings, match_exports
from shiftreg.api.doctor.findings import Diagnosis, Finding
from shiftreg.api.doctor.leftovers import (
    clear_files,
    left_files,
    left_runs,
    leftover_findings,
    written_folders,
)
from shiftreg.api.doctor.marks import mark_findings
from shiftreg.api.doctor.measurements import measurement_findings, read_measurements
from shiftreg.api.doctor.shifts import MADE, copies, shift_findings
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditEvent
from shiftreg.errors import ShiftregError
from shiftreg.registry import BaseRecord
from shiftreg.registry.examination import Entry

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
        workspace: Where.
        repair: Take away what interrupted commands left, and tell the audit trail of versions and
            exports that it does not know. Nothing else is changed.
        reason: For the audit trail, of a repair.
        observe: Told of the progress.

    Returns:
        What was found; of a repair, what is left afterwards, and what was done.

    Raises:
        StorageError: The registry cannot be opened at all.
    """
    diagnosis = _examined(workspace, observe)
    if not repair:
        return diagnosis
    with workspace.registry.lock():  # what is active must not change while it is told
        done = (*_cleared(workspace), *_told(workspace, reason))
    return replace(_examined(workspace, observe), repaired=done) if done else diagnosis


def _examined(workspace: Workspace, observe: Observer) -> Diagnosis:
    registry = workspace.registry
    findings: list[Finding] = []
    if damage := registry.examination.database_damage():
        findings.append(
            Finding(
                "damage",
                "the database",
                f"SQLite finds it damaged: {damage}.",
                "Put a backup in its place; `sqlite3 FILE .recover` may save the rest.",
            )
        )
    events, trail = _trail(workspace)
    findings += trail
    bases = registry.examination.bases()
    findings += lost_bases([base.name for base in bases], events)
    examined = {
        "events": len(events),
        "bases": len(bases),
        "versions": 0,
        "exports": 0,
        "reports": 0,
    }
    for number, base in enumerate(bases):
        observe(Progress(f"examining {base.name}", number, len(bases)))
        own = _of(base.name, events)
        versions = registry.examination.shifts(base.name)
        exports = registry.examination.compositions(base.name)
        reports = read_measurements(registry, base.name)
        findings += base_findings(registry, base, own)
        findings += shift_findings(registry, versions, own)
        findings += export_findings(registry, exports, versions, own)
        findings += measurement_findings(registry, base.name, reports, own)
        findings += mark_findings(exports, reports["verification"], own)
        findings += leftover_findings(left_runs(registry, base.name), ())
        examined["versions"] += len(versions)
        examined["exports"] += len(exports)
        examined["reports"] += sum(map(len, reports.values()))
    findings += leftover_findings((), left_files(_folders(workspace, bases)))
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
        Finding(
            "damage",
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


def _of(base: str, events: Sequence[AuditEvent]) -> list[AuditEvent]:
    return [event for event in events if event.base == base]


def _folders(workspace: Workspace, bases: Sequence[Entry[BaseRecord]]) -> Iterator[Path]:
    """Where commands write: the home, and wherever something was exported to."""
    yield from written_folders(workspace.settings.home)
    for base in bases:
        for entry in workspace.registry.examination.compositions(base.name):
            if entry.record and entry.record.export_path:
                yield Path(entry.record.export_path).parent


def _cleared(workspace: Workspace) -> Iterator[str]:
    registry = workspace.registry
    bases, events = registry.examination.bases(), workspace.audit.events()
    for base in bases:
        needed = {e.record.run_id for e in registry.examination.shifts(base.name) if e.record}
        for run in left_runs(registry, base.name):
            if run.run_id in needed:
                registry.examination.end_run(run.run_id)
            else:
                registry.examination.remove_run(run.run_id)
            yield f"The run '{run.name}' of an interrupted command was ended."
        for twin in copies(registry.examination.shifts(base.name), _of(base.name, events)):
            registry.examination.remove_version(twin)
            yield f"{twin.name} version {twin.number}, a copy, was deleted."
    files = left_files(_folders(workspace, bases))
    clear_files(files)
    yield from (f"'{path}' was removed: it was never finished." for path in files)


def _told(workspace: Workspace, reason: str) -> Iterator[str]:
    """Tells the audit trail of what it does not know; it says that this was found, not done."""
    events = workspace.audit.events()
    found = {"found": "It was registered, and the audit trail did not know it."}
    bases = workspace.registry.examination.bases()
    for base in (entry.record for entry in bases if entry.record):
        known = {e.digests.get("record") for e in events} | {
            (e.concepts[0], e.details.get("version"))
            for e in events
            if e.base == base.name and e.action in MADE
        }
        for entry in workspace.registry.examination.shifts(base.name):
            version = entry.record
            if version is None or (version.concept, version.version) in known:
                continue
            workspace.audit.append(
                "erase",
                base=base.name,
                concepts=(version.concept,),
                reason=reason,
                digests={
                    "base": base.digest,
                    "shift": version.digest,
                    "record": version.record_digest,
                },
                details={**found, "version": version.version, "active": version.active},
            )
            yield f"The audit trail was told of {version.reference}."
        entries = workspace.registry.examination.compositions(base.name)
        compositions = [entry.record for entry in entries if entry.record]
        exports, _ = match_exports(compositions, [e for e in events if e.base == base.name])
        for composition in compositions:
            if composition.version in exports:
                continue
            workspace.audit.append(
                "export",
                base=base.name,
                concepts=composition.erased,
                reason=reason,
                digests={
                    "base": base.digest,
                    "composition": composition.digest,
                    "export": composition.export_digest,
                    "recipe": composition.recipe_digest,
                    "record": composition.record_digest,
                },
                details={**found, "path": composition.export_path},
            )
            yield f"The audit trail was told of the export {composition.export_path}."
