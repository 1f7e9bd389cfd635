"""Erasing concepts, and making their shifts protect what was registered later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftreg.api.changes import change
from shiftreg.api.erasure.decoupling import DECOUPLED, decouple_again, shift_plan
from shiftreg.api.erasure.finding import ErasureTask
from shiftreg.api.erasure.methods import build_eraser
from shiftreg.api.erasure.planning import named_concepts
from shiftreg.api.erasure.running import run_erasures
from shiftreg.api.erasure.surroundings import Surroundings
from shiftreg.api.states import plan_refresh
from shiftreg.api.values import (
    ErasureResult,
    Observer,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.engines import Engine, InProcess
from shiftreg.erasers import ClosedForm
from shiftreg.profiles import Profile
from shiftreg.registry import ShiftVersion
from shiftreg.shift import ConceptShift


def erase(
    workspace: Workspace,
    names: Sequence[str],
    *,
    aliases: Sequence[str] = (),
    kind: Kind = "style",
    method: str = ClosedForm.name,
    options: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
    profile: str = "exact",
    reason: str = "",
    seed: int = 0,
    engine: Engine | None = None,
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Erases concepts: each becomes a registered, active shift.

    Wherever a shift is found, it is the same, and this process registers it.

    Args:
        workspace: Where.
        names: Of the concepts. "NAME@VERSION" makes that stored version active again instead.
        aliases: Other names of the one concept.
        kind: "style" or "object".
        method: Name of the eraser.
        options: Its hyper-parameters.
        protect: Further prompts to leave exactly as they are.
        profile: How much of other concepts' names is kept exactly: see ``profiles.Profile``.
        reason: For the audit trail.
        seed: The same seed gives the same shift.
        engine: Where shifts are found: see :func:`choose_engine`; here, one by one, by default.
        observe: Told of the progress.

    Raises:
        IncompleteError: Some of several could not be erased; the others are.
        CapacityError: The null space is too small to erase the one concept.
        InvalidInputError: Unknown method or option, or aliases for more than one concept.
    """
    concepts = named_concepts(workspace, names, aliases, kind)
    eraser = build_eraser(method, options)
    kept = Profile.parse(profile)
    stored: dict[str, ErasureResult] = {}
    for name in names:
        spelled, at, reference = name.partition("@")
        if at:
            stored[name] = _activate(workspace, workspace.find(spelled), reference, reason)
    around = Surroundings.of(workspace, [concept.name for concept in concepts])
    # A joint method trains them all at once; the others each by itself.
    batches = [concepts] if hasattr(eraser, "erase_jointly") else [[c] for c in concepts]
    tasks = [
        ErasureTask(
            workspace.base,
            workspace.settings.home,
            tuple(batch),
            eraser,
            around,
            tuple(protect),
            kept,
            seed,
        )
        for batch in batches
        if batch
    ]
    made = iter(run_erasures(workspace, tasks, reason, engine or InProcess(), observe))
    return tuple(stored.get(name) or next(made) for name in names)


def refresh(
    workspace: Workspace,
    names: Sequence[str] | None = None,
    *,
    reason: str = "",
    engine: Engine | None = None,
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Makes new versions of stale shifts, decoupled from everything that is registered now.

    Each keeps its method, options, seed, aliases and protected prompts, and names its predecessor.
    """
    around = Surroundings.of(workspace)
    results: dict[str, ErasureResult] = {}
    tasks = []
    for name, _towards in plan_refresh(workspace, names):
        version = workspace.registry.shifts.version(workspace.base.name, name, "active")
        old = workspace.shift(version)
        if old.method == DECOUPLED:
            results[name] = decouple_again(workspace, version, old, reason)
        else:
            tasks.append(_made_anew(workspace, version, old, around))
    made = run_erasures(workspace, tasks, reason, engine or InProcess(), observe)
    results |= {result.plan.concept: result for result in made}
    return tuple(results.values())


def _made_anew(
    workspace: Workspace, version: ShiftVersion, old: ConceptShift, around: Surroundings
) -> ErasureTask:
    """What makes the next version of a shift, by the same method, options, seed and prompts."""
    options = dict(old.hyperparameters)
    seed = options.pop("seed")
    profile = Profile.parse(options.pop("profile", "exact"))
    protect = options.pop("exact", old.protected)
    return ErasureTask(
        workspace.base,
        workspace.settings.home,
        (Concept(old.concept, old.aliases, old.kind),),  # type: ignore[arg-type]
        build_eraser(old.method, options),
        around,
        tuple(protect),
        profile,
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
    return ErasureResult(plan, version.version, version.digest, {}, (), None, statement)
