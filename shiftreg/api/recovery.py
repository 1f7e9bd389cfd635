"""What a killed command left half-done: completed where the change was made, else taken back.

For each write-ahead record: if the registry has the change, its event is recorded now; if not, no
event is, and whatever had been written is removed. The registry is as after, or as before.

Only records that this user is proven to have written are settled (see ``WriteAheadLog.read``), and
only files that are still the ones that the change had made are removed: anything else in a home may
be of somebody else, or planted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftreg.api.changes import WRITE_AHEAD
from shiftreg.api.trail.measurements import recorded
from shiftreg.api.workspace import DELETE, MADE, Workspace
from shiftreg.audit import AuditEvent, Cause, WriteAheadRecord
from shiftreg.checkpoints import file_digest
from shiftreg.checkpoints.atomic import PREVIOUS, forget_partial, take_back
from shiftreg.checkpoints.export import checkpoint_digest
from shiftreg.errors import NotFoundError
from shiftreg.registry import ShiftVersion
from shiftreg.release import sidecar_digests

SWITCHES = (*MADE, "activate", "restore", DELETE)
"""Actions that may change what is active."""


@dataclass(frozen=True)
class Unsettled:
    """A change whose command is gone.

    Attributes:
        after: Number of the last event before it began. Not a time: clocks go back.
        event: What its event will say, as far as it was known.
        recovery: What else was written down.
    """

    after: int
    event: dict[str, Any]
    recovery: Mapping[str, Any]
    events: Sequence[AuditEvent]


def recover(workspace: Workspace) -> tuple[str, ...]:
    """Settles the changes whose commands are gone; instant where there are none.

    Returns:
        One sentence a change that was completed.

    Raises:
        StorageError: The disk or the server refuses; the records then stay.
    """
    with workspace.write_ahead.abandoned() as records:
        if not records:
            return ()
        with workspace.registry.lock():
            return _settled(workspace, records)


def _settled(workspace: Workspace, records: Sequence[WriteAheadRecord]) -> tuple[str, ...]:
    events = workspace.audit.events()
    known = {event.details.get(WRITE_AHEAD) for event in events}
    completed = []
    for record in records:
        settle = RECOVERIES.get(record.action)
        if record.identity in known or settle is None:
            continue
        values = record.values
        event = dict(values["event"])
        after = values.get("after", events[-1].sequence if events else 0)
        unsettled = Unsettled(after, event, values["recovery"], events)
        if not settle(workspace, unsettled):
            continue
        event["details"] |= {WRITE_AHEAD: record.identity, "completed": "after an interruption"}
        # By whom and why, as it would have been recorded.
        trail = replace(workspace.audit, cause=Cause(**values["cause"]))
        trail.append(record.action, **event, actor=values["actor"])
        subject = ", ".join(event["concepts"]) or event["base"]
        completed.append(f"An interrupted '{record.action}' of {subject} was completed.")
    return tuple(completed)


def _registered(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether there is a version without an event; it is made active if it was to be."""
    event, events = unsettled.event, unsettled.events
    (concept,) = event["concepts"]
    known = {(e.base, e.concepts, e.details.get("version")) for e in events}
    new = [
        version
        for version in _versions(workspace, event["base"], concept)
        if version.digest == event["digests"]["shift"]
        and (event["base"], (concept,), version.version) not in known
    ]
    if not new:
        return False
    version = new[-1]
    workspace.registry.examination.end_run(version.run_id)
    later = any(concept in e.concepts and e.sequence > unsettled.after for e in events)
    if event["details"]["active"] and not version.active and not later:
        workspace.registry.shifts.activate(event["base"], concept, version.version)
    event["digests"]["record"] = version.record_digest
    event["details"]["version"] = version.version
    return True


def _switched(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether active is what was to be, or nothing if nothing was to be, by nobody else's doing."""
    (concept,) = unsettled.event["concepts"]
    versions = _versions(workspace, unsettled.event["base"], concept)
    now = next((version.version for version in versions if version.active), None)
    later = any(
        e.sequence > unsettled.after and e.action in SWITCHES and concept in e.concepts
        for e in unsettled.events
    )
    return now == unsettled.recovery["active"] and not later


def _deleted(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether the version is gone; then its run goes, too."""
    event, registry = unsettled.event, workspace.registry
    base, details = event["base"], event["details"]
    if "composition" in details:
        left = {version.version for version in registry.compositions.all(base)}
        is_left = details["composition"] in left
    else:
        (concept,) = event["concepts"]
        left = {version.version for version in _versions(workspace, base, concept)}
        is_left = details["version"] in left
    record = event["digests"]["record"]
    if is_left or any(  # or somebody else did it, later
        e.action == DELETE and e.digests.get("record") == record for e in unsettled.events
    ):
        return False
    registry.drop_run(base, unsettled.recovery["run"])
    return True


def _initialised(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether the base's record is the one that was to be kept."""
    with suppress(NotFoundError):
        record = workspace.registry.bases.read(unsettled.event["base"])
        return record.record_digest == unsettled.event["digests"]["record"]
    return False


def _measured(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether the report was kept; then the exports that it is about are marked."""
    event, registry = unsettled.event, workspace.registry
    base, kind, digest = event["base"], unsettled.recovery["kind"], event["digests"]["report"]
    kept = [one for one in registry.measurements.all(base, kind) if one.report_digest == digest]
    # What was verified before and is as it was gives the same report: it has an event of its own.
    alike = [
        one for one in recorded(unsettled.events, base, kind) if one.digests["report"] == digest
    ]
    if len(kept) <= len(alike):
        return False
    registry.measurements.mark_exports(base, kept[-1])
    return True


def _appeared(_: Workspace, unsettled: Unsettled) -> bool:
    """Whether the file is there, whole; what was written of it beside that place goes."""
    path = Path(unsettled.recovery["path"])
    forget_partial(path, unsettled.recovery["partial"])
    digest = unsettled.event["digests"][unsettled.recovery["word"]]
    return path.is_file() and file_digest(path) == digest


def _exported(workspace: Workspace, unsettled: Unsettled) -> bool:
    """Whether the export was registered; if not, its files go and those before it come back."""
    event, events, recovery = unsettled.event, unsettled.events, unsettled.recovery
    paths = [Path(path) for path in recovery["paths"]]
    partial, made = recovery.get("partial", ""), recovery.get("made", {})
    known = {e.digests.get("record") for e in events}
    new = [
        composition
        for composition in workspace.registry.compositions.all(event["base"])
        if composition.export_path == str(paths[0])
        and composition.digest == event["digests"]["composition"]
        and composition.record_digest not in known
    ]
    found = checkpoint_digest(paths[0]) if paths[0].exists() else ""
    if new and new[-1].export_digest == found:
        event["digests"] |= {
            "export": new[-1].export_digest,
            "recipe": new[-1].recipe_digest,
            "record": new[-1].record_digest,
            **sidecar_digests(paths[0]),
        }
        forget_partial(paths[0], partial)
        forget_partial(paths[0], f"{partial}{PREVIOUS}")
        return True
    for composition in new:  # its files were put back before its event was recorded
        workspace.registry.remove_version(composition)
        workspace.registry.drop_run(composition.base, composition.run_id)
    if partial:  # else it died, or found the disk full, before it had begun
        # Another command, of this home or of another one, may have exported there since.
        appeared = [path for path in paths if path.name in made and _is(path, *made[path.name])]
        take_back(paths[0], partial, appeared, [path.name for path in paths])
        forget_partial(paths[0], partial)
    return False


def _is(path: Path, inode: int, digest: str) -> bool:
    """Whether a file or folder is the one that a change had made: moved, and not replaced since."""
    return (
        os.path.lexists(path) and path.lstat().st_ino == inode and checkpoint_digest(path) == digest
    )


def _versions(workspace: Workspace, base: str, concept: str) -> list[ShiftVersion]:
    with suppress(NotFoundError):
        return workspace.registry.shifts.versions(base, concept)
    return []


RECOVERIES: Mapping[str, Callable[[Workspace, Unsettled], bool]] = {
    "export": _exported,
    "init": _initialised,
    "erase": _registered,
    "refresh": _registered,
    "import": _registered,
    "decouple": _registered,
    "activate": _switched,
    "restore": _switched,
    "delete": _deleted,
    "verify": _measured,
    "evaluate": _measured,
    "attack": _measured,
    "report": _measured,
    "evidence": _appeared,
    "train classifier": _appeared,
}
"""What finds out whether a change was made, and completes it if so."""
