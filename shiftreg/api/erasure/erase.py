"""Erasing concepts, and making their shifts protect what was registered later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from shiftreg.api.changes import change
from shiftreg.api.erasure.decouple import DECOUPLED, decouple_again, shift_plan
from shiftreg.api.erasure.plan import (
    ErasureContext,
    ErasureRequest,
    ErasureTerms,
    PlannedErasures,
    plan_erasures,
)
from shiftreg.api.erasure.run import run_erasures
from shiftreg.api.erasure.task import ErasureTask
from shiftreg.api.states import plan_refresh
from shiftreg.api.values import ErasureResult, Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept
from shiftreg.engines import Engine, InProcess
from shiftreg.plugins import build_eraser
from shiftreg.profiles import Profile
from shiftreg.registry import ShiftVersion
from shiftreg.shift import ConceptShift


def erase(
    workspace: Workspace,
    concepts: PlannedErasures | Sequence[str],
    *,
    reason: str = "",
    seed: int = 0,
    engine: Engine | None = None,
    force: bool = False,
    observe: Observer = ignore_progress,
    **request: Unpack[ErasureRequest],
) -> tuple[ErasureResult, ...]:
    """Erases concepts: each becomes a registered, active shift.

    Wherever a shift is made, it is the same, and this process registers it.

    Args:
        concepts: What :func:`plan_erasures` gave; or names, to be planned here. "NAME@VERSION"
            makes that stored version active again instead.
        seed: The same seed gives the same shift.
        engine: Where the work is done: see :func:`choose_engine`; here, one by one, by default.
        force: Make a shift active also where most of its concept is left.
        **request: How named concepts are erased.

    Raises:
        IncompleteError: Some of several could not be erased; the others are.
        CapacityError: The null space is too small to erase the one concept.
        InvalidInputError: Unknown method or option, or aliases for more than one concept.
    """
    if isinstance(concepts, PlannedErasures):
        planned = concepts
    else:
        planned = plan_erasures(workspace, concepts, **request)
    stored: dict[str, ErasureResult] = {}
    for name in planned.names:
        spelled, at, reference = name.partition("@")
        if at:
            stored[name] = _activate(workspace, workspace.find(spelled), reference, reason)
    # A joint method trains them all at once; the others each by itself.
    joint = hasattr(planned.terms.eraser, "erase_jointly")
    batches = [planned.concepts] if joint else [(concept,) for concept in planned.concepts]
    tasks = [
        ErasureTask(workspace.base, workspace.settings.home, batch, planned.terms, seed)
        for batch in batches
        if batch
    ]
    made = iter(
        run_erasures(
            workspace,
            tasks,
            reason,
            engine or InProcess(),
            observe,
            planned.prepared,
            force=force,
        )
    )
    return tuple(stored.get(name) or next(made) for name in planned.names)


def refresh(
    workspace: Workspace,
    names: Sequence[str] | None = None,
    *,
    reason: str = "",
    engine: Engine | None = None,
    force: bool = False,
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Makes new versions of stale shifts, decoupled from everything that is registered now.

    Each keeps its method, options, seed, aliases and protected prompts, and names its predecessor.
    One that hardly changes its concept is not active, and its predecessor stays: see :func:`erase`.
    """
    context = ErasureContext.of(workspace)
    results: dict[str, ErasureResult] = {}
    tasks = []
    for name, _towards in plan_refresh(workspace, names):
        version = workspace.registry.shifts.version(workspace.base.name, name, "active")
        old = workspace.shift(version)
        if old.method == DECOUPLED:
            results[name] = decouple_again(workspace, version, old, reason)
        else:
            tasks.append(_next_version(workspace, version, old, context))
    made = run_erasures(workspace, tasks, reason, engine or InProcess(), observe, force=force)
    results |= {result.plan.concept: result for result in made}
    return tuple(results.values())


def _next_version(
    workspace: Workspace, version: ShiftVersion, old: ConceptShift, context: ErasureContext
) -> ErasureTask:
    """What makes the next version of a shift, by the same method, options, seed and prompts."""
    options = dict(old.hyperparameters)
    seed = options.pop("seed")
    profile = Profile.parse(options.pop("profile", "exact"))
    protect = tuple(options.pop("exact", old.protected))
    return ErasureTask(
        workspace.base,
        workspace.settings.home,
        (Concept(old.concept, old.aliases, old.kind),),  # type: ignore[arg-type]
        ErasureTerms(build_eraser(old.method, options), context, protect, profile),
        seed,
        version,
    )


def _activate(workspace: Workspace, name: str, reference: str, reason: str) -> ErasureResult:
    """Erases again with a stored version: nothing is trained."""
    base = workspace.base
    version = workspace.registry.shifts.version(base.name, name, reference)
    shift = workspace.shift(version)
    with (
        workspace.registry.lock(),
        change(
            workspace,
            "activate",
            base=base.name,
            concepts=(name,),
            reason=reason,
            digests={"base": base.digest, "shift": shift.digest},
            details={"version": version.version},
            recovery={"active": version.version},
        ),
    ):
        workspace.registry.shifts.activate(base.name, name, version)
    plan = shift_plan(workspace, shift)
    statement = f"{name}: erased (version {version.version}, made active again)"
    return ErasureResult(plan, version.version, version.digest, {}, (), statement)
