"""Erasing concepts, and making their shifts protect what was registered later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shiftreg.api.changes import change
from shiftreg.api.erasure.decoupling import DECOUPLED, decouple_again, shift_plan
from shiftreg.api.erasure.methods import build_eraser
from shiftreg.api.erasure.planning import (
    named_concepts,
    prepare_erasure,
)
from shiftreg.api.erasure.running import run_erasure
from shiftreg.api.states import plan_refresh
from shiftreg.api.values import (
    ErasureResult,
    Observer,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.erasers import ClosedForm
from shiftreg.profiles import Profile


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
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Erases concepts, one after the other: each becomes a registered, active shift.

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
        observe: Told of the progress.

    Raises:
        CapacityError: The null space is too small to erase a concept.
        InvalidInputError: Unknown method or option, or aliases for more than one concept.
    """
    concepts = named_concepts(workspace, names, aliases, kind)
    eraser = build_eraser(method, options)
    kept = Profile.parse(profile)
    together = [concept.name for concept in concepts]
    # A joint method trains them all at once; the others prepare each when its turn comes.
    batches = [concepts] if hasattr(eraser, "erase_jointly") else [[c] for c in concepts]
    made: list[ErasureResult] = []
    results = []
    for name in names:
        spelled, _, reference = name.partition("@")
        if reference:
            results.append(_activate(workspace, workspace.find(spelled), reference, reason))
            continue
        if not made:
            prepared = [
                prepare_erasure(
                    workspace, c, eraser, protect=protect, together=together, profile=kept
                )
                for c in batches.pop(0)
            ]
            made = run_erasure(workspace, prepared, reason, seed, None, observe)
        results.append(made.pop(0))
    return tuple(results)


def refresh(
    workspace: Workspace,
    names: Sequence[str] | None = None,
    *,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> tuple[ErasureResult, ...]:
    """Makes new versions of stale shifts, decoupled from everything that is registered now.

    Each keeps its method, options, seed, aliases and protected prompts, and names its predecessor.
    """
    results = []
    for name, _towards in plan_refresh(workspace, names):
        version = workspace.registry.version(workspace.base.name, name, "active")
        old = workspace.shift(version)
        if old.method == DECOUPLED:
            results.append(decouple_again(workspace, version, old, reason))
            continue
        options = dict(old.hyperparameters)
        seed = options.pop("seed")
        profile = Profile.parse(options.pop("profile", "exact"))
        prepared = prepare_erasure(
            workspace,
            Concept(old.concept, old.aliases, old.kind),  # type: ignore[arg-type]
            build_eraser(old.method, {k: v for k, v in options.items() if k != "exact"}),
            protect=options.get("exact", old.protected),
            profile=profile,
        )
        results += run_erasure(workspace, [prepared], reason, seed, version, observe)
    return tuple(results)


def _activate(workspace: Workspace, name: str, reference: str, reason: str) -> ErasureResult:
    """Erases again with a stored version: nothing is trained."""
    base = workspace.base
    version = workspace.registry.version(base.name, name, reference)
    shift = workspace.shift(version)
    with (
        workspace.registry.turn(),
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
        workspace.registry.activate(base.name, name, version)
    plan = shift_plan(workspace, shift)
    statement = f"{name}: erased (version {version.version}, made active again)"
    return ErasureResult(plan, version.version, version.digest, {}, (), None, statement)
