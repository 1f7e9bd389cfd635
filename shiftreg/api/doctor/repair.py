"""Repairing a registry: what interrupted commands left goes, and the trail learns what it lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from shiftreg.api.doctor.exports import match_exports
from shiftreg.api.doctor.findings import Finding
from shiftreg.api.doctor.shifts import copies, made_versions
from shiftreg.api.workspace import Workspace
from shiftreg.audit import WriteAheadLog
from shiftreg.checkpoints.atomic import PREVIOUS, is_left
from shiftreg.registry import BaseRecord, Registry
from shiftreg.registry.examination import Examined, OpenRun

WRITTEN = (
    "attacks",
    "bases",
    "classifiers",
    "evaluations",
    "reports",
    "samples",
    "unfinished",
    "verified",
)
"""Folders of a home that commands write to, with whatever lies below them."""

REPAIR = "Take it away: shiftreg doctor --repair"


def left_runs(registry: Registry, base: str) -> tuple[OpenRun, ...]:
    """Runs of processes of this machine that are gone."""
    return tuple(run for run in registry.examination.open_runs(base) if run.is_left)


def written_folders(workspace: Workspace, bases: Sequence[Examined[BaseRecord]]) -> Iterator[Path]:
    """Where commands write: the home but for MLflow's part, and wherever something was exported."""
    home = workspace.settings.home
    yield home
    for name in WRITTEN:
        for folder, below, _ in os.walk(home / name):
            yield Path(folder)
            # What was never finished goes as a whole; scenes have artifacts of their own.
            below[:] = [sub for sub in below if sub != "artifacts" and not is_left(Path(sub))]
    for base in bases:
        for entry in workspace.registry.examination.compositions(base.name):
            if entry.record and entry.record.export_path:
                yield Path(entry.record.export_path).parent


def left_files(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Files and folders that were being written by processes that are gone."""
    found = {
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if is_left(path)
    }
    return tuple(sorted(found))


def leftover_findings(runs: Sequence[OpenRun], files: Sequence[Path]) -> Iterator[Finding]:
    """What interrupted commands left, of runs and of files."""
    for run in runs:
        yield Finding(
            "leftover",
            f"run {run.name}",
            f"This {run.kind} was interrupted, and its run in MLflow never ended.",
            REPAIR,
        )
    for path in files:
        if path.name.endswith(PREVIOUS):
            yield Finding(
                "leftover",
                str(path),
                "It holds what a process that is gone was about to replace.",
                "Move what you need to its place, and delete the folder.",
            )
        else:
            yield Finding(
                "leftover", str(path), "It was being written by a process that is gone.", REPAIR
            )


def record_findings(log: WriteAheadLog) -> Iterator[Finding]:
    """Write-ahead records: those that the next command settles, and those that none does."""
    foreign = log.foreign()
    for path in log.paths():
        if path in foreign:
            yield Finding(
                "note",
                str(path),
                "It reads like the record of an interrupted change, and nothing proves that you "
                "made it here: another user or key may have, or it was planted. Nothing is done "
                "about it.",
                "Let whoever made it run a command that writes, or delete the file.",
            )
        else:
            yield Finding(
                "leftover",
                str(path),
                "This change was interrupted, or is going on.",
                "The next command that writes completes it or takes it back: shiftreg doctor "
                "--repair",
            )


def put_in_order(workspace: Workspace, reason: str) -> Iterator[str]:
    """Ends leftover runs, removes files and copies, records what the trail does not know.

    Hold the registry's lock.

    Yields:
        What was done, a sentence each.
    """
    yield from _cleared(workspace)
    yield from _recorded(workspace, reason)


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
        own = [event for event in events if event.base == base.name]
        for twin in copies(registry.examination.shifts(base.name), own):
            registry.examination.remove_version(twin)
            yield f"{twin.name} version {twin.number}, a copy, was deleted."
    for path in left_files(written_folders(workspace, bases)):
        if path.name.endswith(PREVIOUS):
            continue  # the only copy of what somebody had there
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        yield f"'{path}' was removed: it was never finished."


def _recorded(workspace: Workspace, reason: str) -> Iterator[str]:
    """Records what the audit trail does not know; the events say that it was found, not done."""
    events = workspace.audit.events()
    found = {"found": "It was registered, and the audit trail did not know it."}
    bases = workspace.registry.examination.bases()
    for base in (entry.record for entry in bases if entry.record):
        own = [event for event in events if event.base == base.name]
        known = made_versions(own)
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
            yield f"{version.reference} was recorded in the audit trail."
        entries = workspace.registry.examination.compositions(base.name)
        compositions = [entry.record for entry in entries if entry.record]
        exports, _ = match_exports(compositions, own)
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
            yield f"The export {composition.export_path} was recorded in the audit trail."
