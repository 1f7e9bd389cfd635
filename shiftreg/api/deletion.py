"""Deletion: a version of a shift, or a composition, leaves the registry; the trail keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftreg.api.changes import change
from shiftreg.api.workspace import DELETE, Workspace
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.registry import CompositionVersion, ShiftVersion


@dataclass(frozen=True)
class Deletion:
    """What is deleted, and what speaks against it.

    Attributes:
        subject: "NAME@VERSION", or "composition N".
        concepts: That it erases.
        digest: Of the shift or composition.
        created: UTC, ISO 8601.
        objections: One sentence each; with one, only ``force`` deletes it.
    """

    base: str
    subject: str
    concepts: tuple[str, ...]
    digest: str
    created: str
    objections: tuple[str, ...]
    done: bool = False


def plan_deletion(
    workspace: Workspace, reference: str | None = None, *, composition: int | None = None
) -> Deletion:
    """Looks up what would be deleted, and what speaks against it; nothing is changed.

    Args:
        reference: "NAME@VERSION" of a shift; the version must be said.
        composition: Or else the number of a composition.

    Raises:
        NotFoundError: There is no such version or composition.
        InvalidInputError: No version is named, or it is the active one of a method whose erasures
            are not taken back.
    """
    return _planned(workspace, _found(workspace, reference, composition))


def delete(
    workspace: Workspace,
    reference: str | None = None,
    *,
    composition: int | None = None,
    reason: str,
    force: bool = False,
) -> Deletion:
    """Deletes a version of a shift, or a composition, from the registry.

    Exported files stay where they are. MLflow keeps what it deletes until ``mlflow gc``, and gives
    the number to no other version. The audit trail keeps the story.

    Args:
        reference: "NAME@VERSION" of a shift; the version must be said.
        composition: Or else the number of a composition.
        reason: For the audit trail; required.
        force: Delete it whatever speaks against it: an active concept then generates again, and
            exports that hold the shift can no longer be verified.

    Raises:
        NotFoundError: There is no such version or composition.
        InvalidInputError: No reason or version, or something speaks against it.
        StorageError: The database or the server refused.
    """
    if not reason.strip():
        raise InvalidInputError("Deleting needs a reason, for the audit trail. Give --reason TEXT.")
    registry = workspace.registry
    # Objections are looked up under the same lock: nobody changes anything in between.
    with registry.lock():
        found = _found(workspace, reference, composition)
        planned = _planned(workspace, found)
        if planned.objections and not force:
            raise InvalidInputError(f"{' '.join(planned.objections)} To delete it anyway: --force")
        digests = {"base": workspace.base.digest, "record": found.record_digest}
        if isinstance(found, ShiftVersion):
            digests["shift"] = found.digest
            details: dict[str, Any] = {"version": found.version, "active": found.active}
        else:
            digests |= {"composition": found.digest, "export": found.export_digest}
            details = {"composition": found.version, "path": found.export_path}
        with change(
            workspace,
            DELETE,
            base=planned.base,
            concepts=planned.concepts,
            reason=reason,
            digests={word: digest for word, digest in digests.items() if digest},
            details=details,
            recovery={"run": found.run_id},
        ):
            registry.remove_version(found)
            registry.drop_run(found.base, found.run_id)
    return replace(planned, done=True)


def _found(
    workspace: Workspace, reference: str | None, composition: int | None
) -> ShiftVersion | CompositionVersion:
    registry, base = workspace.registry, workspace.base.name
    if (reference is None) == (composition is None):
        raise InvalidInputError(
            "Say what to delete, one thing at a time: NAME@VERSION, or --composition N."
        )
    if reference is not None:
        name, _, number = reference.rpartition("@")
        if not name or not number.removeprefix("v").isdecimal():
            raise InvalidInputError(
                f"Deleting takes one version, NAME@VERSION, and not '{reference}'. "
                f"See: shiftreg show '{name or reference}'"
            )
        return registry.shifts.version(base, workspace.find(name), number)
    for version in registry.compositions.all(base):
        if version.version == composition:
            return version
    raise NotFoundError(
        f"There is no composition {composition} of base '{base}'. See: shiftreg audit --action "
        "export"
    )


def _planned(workspace: Workspace, found: ShiftVersion | CompositionVersion) -> Deletion:
    if isinstance(found, ShiftVersion):
        return Deletion(
            base=found.base,
            subject=found.reference,
            concepts=(found.concept,),
            digest=found.digest,
            created=found.created,
            objections=tuple(_against_shift(workspace, found)),
        )
    path = Path(found.export_path) if found.export_path else None
    objections = []
    if path and path.exists():
        objections.append(f"Its file {path} is there, and could no longer be verified.")
    return Deletion(
        base=found.base,
        subject=f"composition {found.version}",
        concepts=found.erased,
        digest=found.digest,
        created=found.created,
        objections=tuple(objections),
    )


def _against_shift(workspace: Workspace, version: ShiftVersion) -> Sequence[str]:
    from shiftreg.plugins import require_recoverable

    objections = []
    if version.active:
        require_recoverable(version)
        objections.append(
            f"{version.reference} is active: '{version.concept}' would generate again. Restore it "
            "first: shiftreg restore."
        )
    shift = (version.concept, version.version, version.digest)
    holders = [c for c in workspace.registry.compositions.all(version.base) if shift in c.shifts]
    if holders:
        names = ", ".join(f"{c.version} ({c.export_path or 'not exported'})" for c in holders)
        objections.append(
            f"{version.reference} is in what was exported, which could no longer be verified: "
            f"composition {names}. Delete that first: shiftreg delete --composition N."
        )
    return objections
