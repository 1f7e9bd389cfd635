"""Where a concept's shift is, and where it is not: every export that is on record."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal

from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.audit import AuditEvent
from shiftreg.registry import CompositionVersion

Presence = Literal["unchanged", "changed", "missing", "elsewhere", "not looked at"]
Holding = Literal["erased", "generates", "not in it"]
ADAPTER = "adapter"


@dataclass(frozen=True, kw_only=True)
class Export:
    """One recorded export, and what it does to the concept.

    Attributes:
        state: "erased", "generates", or "not in it" for an adapter of other concepts.
        statement: The same in a sentence.
        form: "ckpt", "safetensors", "folder", "adapter, kohya" and the like; "" if no record says.
        composition: Digest of what it holds.
        version: Number of the composition in the registry; None if only the trail knows it.
        shift_version: Of the concept's shift that is in it; None if none is.
        created: UTC, ISO 8601.
        host: The machine that wrote it, "" if the trail does not say.
        file: "unchanged", "changed" or "missing", compared with the digest; "elsewhere" if another
            machine wrote it and it is not here.
        in_trail: Whether the audit trail has an event of it.
    """

    state: Holding
    statement: str
    name: str
    path: str
    form: str
    digest: str
    composition: str
    version: int | None = None
    shift_version: int | None = None
    shift: str = ""
    created: str
    host: str
    actor: str
    reason: str
    file: Presence = "not looked at"
    in_trail: bool = True


@dataclass(frozen=True)
class ConceptExports:
    """Where a concept is erased, and where it generates.

    Attributes:
        now: What the default composition does with it, in words.
    """

    base: str
    concept: str
    now: str
    exports: tuple[Export, ...]


def exports_of(
    workspace: Workspace, concept: str, *, look: bool = True, observe: Observer = ignore_progress
) -> ConceptExports:
    """Every recorded export that contains a concept's shift, and every one that lacks it.

    Args:
        look: Whether to compare the files with their digests, which reads all of them.

    Raises:
        NotFoundError: Unknown concept.
    """
    name, base = workspace.find(concept), workspace.base.name
    active = next((v for v in workspace.registry.shifts.active(base) if v.concept == name), None)
    now = f"erased (version {active.version})" if active else "generates"
    events = {
        event.digests["export"]: event
        for event in workspace.audit.readable_events()
        if event.base == base and event.action == "export" and "export" in event.digests
    }
    versions = workspace.registry.compositions.all(base)
    exported = [version for version in versions if version.export_digest]
    registered = {version.export_digest for version in exported}
    unregistered = [event for digest, event in events.items() if digest not in registered]
    exports = [_registered(name, v, events.get(v.export_digest)) for v in exported]
    exports += [_only_in_trail(name, event) for event in unregistered]
    exports.sort(key=lambda export: export.created)
    if look:
        seen = []
        for done, export in enumerate(exports):
            observe(Progress("comparing files", done, len(exports)))
            seen.append(_looked_at(export))
        exports = seen
    return ConceptExports(base, name, now, tuple(exports))


def _registered(name: str, version: CompositionVersion, event: AuditEvent | None) -> Export:
    shift = next((shift for shift in version.shifts if shift[0] == name), None)
    known = name in version.erased or name in version.restored
    details = event.details if event else {}
    form = version.form or str(details.get("form", ""))
    state, statement = _holding(version.export_path, form, shift[1] if shift else None, known=known)
    return Export(
        state=state,
        statement=statement,
        name=PurePath(version.export_path).name,
        path=version.export_path,
        form=form,
        digest=version.export_digest,
        composition=version.digest,
        version=version.version,
        shift_version=shift[1] if shift else None,
        shift=shift[2] if shift else "",
        created=version.created,
        host=event.host if event else "",
        actor=version.actor or (event.actor if event else ""),
        reason=version.reason,
        in_trail=event is not None,
    )


def _only_in_trail(name: str, event: AuditEvent) -> Export:
    """An export whose record in the registry is gone: the event still names it."""
    path, form = str(event.details.get("path", "")), str(event.details.get("form", ""))
    states = event.details.get("states")
    known = isinstance(states, Mapping) and name in states
    erased = name in event.concepts
    state, statement = _holding(path, form, 0 if erased else None, known=known)
    return Export(
        state=state,
        statement=f"{statement}; it is no longer in the registry",
        name=PurePath(path).name,
        path=path,
        form=form,
        digest=event.digests["export"],
        composition=event.digests.get("composition", ""),
        created=event.time,
        host=event.host,
        actor=event.actor,
        reason=event.reason,
    )


def _holding(path: str, form: str, version: int | None, *, known: bool) -> tuple[Holding, str]:
    """What a file does to the concept, and the same in a sentence; version 0 is an unknown one."""
    name = PurePath(path).name
    by = f" (version {version})" if version else ""
    if form.startswith(ADAPTER):
        if version is None:
            return "not in it", f"not in the adapter {name}"
        return "erased", f"erased by the adapter {name} at strength 1{by}"
    if version is not None:
        return "erased", f"erased in {name}{by}"
    why = "its shift was left out" if known else "it was not known then"
    return "generates", f"generates in {name} ({why})"


def _looked_at(export: Export) -> Export:
    from shiftreg import checkpoints

    path = Path(export.path)
    if not path.exists():
        is_here = export.host in ("", socket.gethostname())
        return replace(export, file="missing" if is_here else "elsewhere")
    found = checkpoints.checkpoint_digest(path)
    return replace(export, file="unchanged" if found == export.digest else "changed")
