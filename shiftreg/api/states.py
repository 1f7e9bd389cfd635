"""The state of concepts: what is erased, what generates, how it came about; restoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from shiftreg.api.changes import change
from shiftreg.api.values import ConceptDetail, ConceptState
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.registry.shifts import unprotected


def list_concepts(workspace: Workspace) -> tuple[ConceptState, ...]:
    """The state of every known concept, by name."""
    base, registry = workspace.base, workspace.registry
    stored = registry.shifts.by_concept(base.name)
    stale = {version.concept: towards for version, towards in unprotected(stored).items()}
    deleted = workspace.deleted_versions()
    states = []
    for name in sorted({*stored, *base.protected, *deleted}, key=str.lower):
        versions = stored.get(name, [])
        active = next((version for version in versions if version.active), None)
        shown = active or (versions[-1] if versions else None)
        states.append(
            ConceptState(
                concept=name,
                state="erased" if active else "generates",
                version=active.version if active else None,
                latest=versions[-1].version if versions else 0,
                method=shown.method if shown else "",
                digest=shown.digest if shown else "",
                stale_towards=tuple(stale.get(name, ())) if active else (),
                separable=bool(active.protected) if active else True,
                deleted=deleted.get(name, ()),
            )
        )
    return tuple(states)


def plan_refresh(
    workspace: Workspace, names: Sequence[str] | None = None
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Active shifts that do not protect a concept registered later: ``(concept, towards)``."""
    wanted = None if names is None else {workspace.find(name) for name in names}
    stale = unprotected(workspace.registry.shifts.by_concept(workspace.base.name))
    return tuple(
        (version.concept, towards)
        for version, towards in stale.items()
        if wanted is None or version.concept in wanted
    )


def show_concept(workspace: Workspace, reference: str) -> ConceptDetail:
    """Everything about a concept, or about one version of it.

    Args:
        reference: "NAME", "NAME@VERSION" or "NAME@active".

    Raises:
        NotFoundError: Unknown concept or version.
    """
    spelled, _, number = reference.partition("@")
    name = workspace.find(spelled)
    registry, base = workspace.registry, workspace.base
    versions = workspace.versions(name)
    if number:
        versions = [registry.shifts.version(base.name, name, number)]
    history = [event for event in workspace.audit.events() if name in event.concepts]
    return ConceptDetail(
        state=next(state for state in list_concepts(workspace) if state.concept == name),
        versions=tuple(asdict(version) for version in versions),
        history=tuple(asdict(event) for event in history),
    )


def restore(workspace: Workspace, names: Sequence[str], *, reason: str) -> tuple[ConceptState, ...]:
    """Takes the shifts of concepts out of the default composition: they generate again.

    The shifts stay registered; ``erase NAME@VERSION`` makes one active again.

    Args:
        names: Of erased concepts.
        reason: For the audit trail; required, since it says why a right to the work came back.

    Returns:
        The concepts' new states.

    Raises:
        NotFoundError: Unknown, or not erased.
        InvalidInputError: No reason, or a method whose erasures are not taken back.
    """
    from shiftreg.plugins import require_recoverable

    if not reason.strip():
        raise InvalidInputError(
            "Restoring needs a reason, for the audit trail. Give --reason TEXT."
        )
    base, registry = workspace.base, workspace.registry
    found = [workspace.find(name) for name in names]
    # What is active is read under the same lock, so that the event names the shift taken out.
    with registry.lock():
        active = {version.concept: version for version in registry.shifts.active(base.name)}
        for name in found:
            if name not in active:
                raise NotFoundError(f"'{name}' is not erased, so there is nothing to restore.")
            require_recoverable(active[name])
        for name in found:
            with change(
                workspace,
                "restore",
                base=base.name,
                concepts=(name,),
                reason=reason,
                digests={"base": base.digest, "shift": active[name].digest},
                details={"version": active[name].version},
                recovery={"active": None},
            ):
                registry.shifts.deactivate(base.name, name)
    return tuple(state for state in list_concepts(workspace) if state.concept in found)
