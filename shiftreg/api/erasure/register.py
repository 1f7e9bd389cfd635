"""Keeping a shift: its version in the registry, its event in the audit trail."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftreg.api.changes import change
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import save_shift
from shiftreg.registry import ShiftVersion
from shiftreg.registry.training import TrainingLog
from shiftreg.shift import ConceptShift


def register_shift(
    workspace: Workspace,
    log: TrainingLog,
    shift: ConceptShift,
    metrics: Mapping[str, float],
    *,
    action: str,
    predecessor: str | None = None,
    reason: str = "",
    digests: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
    activate: bool = True,
) -> ShiftVersion:
    """Makes a shift a version of its concept, and says so in the audit trail.

    Args:
        log: Of the run that it comes from.
        predecessor: Digest of the version that it was made from.
        digests: Further ones for the audit trail.
        details: Further ones for the audit trail.
        activate: Whether it becomes the active version.
    """
    base = workspace.base
    known = {"base": base.digest, "shift": shift.digest}
    if predecessor:
        known["predecessor"] = predecessor
    with (
        tempfile.TemporaryDirectory() as scratch,
        change(
            workspace,
            action,
            base=base.name,
            concepts=(shift.concept,),
            reason=reason,
            digests=known | dict(digests or {}),
            details={"method": shift.method, "active": activate, **(details or {})},
        ) as made,
    ):
        shift_file = Path(scratch) / "shift.safetensors"
        save_shift(shift, shift_file)
        version = workspace.registry.shifts.register(
            base.name,
            log,
            shift_file,
            {**shift.metadata(), "digest": shift.digest},
            metrics=metrics,
            predecessor=predecessor,
            reason=reason,
            activate=False,
        )
        # The file is kept by now: the lock is for the change and its event alone.
        with workspace.registry.lock():
            if activate:
                version = workspace.registry.shifts.activate(base.name, shift.concept, version)
            made.digests["record"] = version.record_digest
            made.details["version"] = version.version
            made.record()
    return version
