"""Erasing concepts, and making their shifts protect what was registered later."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from torch import Tensor

from shiftreg import checkpoints, pipelines
from shiftreg.api.decoupling import DECOUPLED, decouple_again, shift_plan
from shiftreg.api.methods import build_eraser
from shiftreg.api.planning import (
    PreparedErasure,
    named_concepts,
    prepare_erasure,
    require_capacity,
)
from shiftreg.api.registering import measure_shift, register_shift
from shiftreg.api.samples import before_and_after
from shiftreg.api.training_data import training_data, unfinished_work
from shiftreg.api.values import (
    ErasurePlan,
    ErasureResult,
    Observer,
    Progress,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, Kind
from shiftreg.erasers import ClosedForm, Erasure, Step
from shiftreg.profiles import Profile, leak_bound
from shiftreg.registry import ShiftVersion
from shiftreg.registry.training import TrainingLog
from shiftreg.shift import ConceptShift, tensor_digest


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
            made = _run(workspace, prepared, reason, seed, None, observe)
        results.append(made.pop(0))
    return tuple(results)


def plan_refresh(
    workspace: Workspace, names: Sequence[str] | None = None
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Active shifts that do not protect a concept registered later: ``(concept, towards)``."""
    wanted = None if names is None else {workspace.find(name) for name in names}
    stale = workspace.registry.stale(workspace.base.name)
    return tuple(
        (version.concept, towards)
        for version, towards in stale.items()
        if wanted is None or version.concept in wanted
    )


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
        results += _run(workspace, [prepared], reason, seed, version, observe)
    return tuple(results)


def _run(
    workspace: Workspace,
    prepared: Sequence[PreparedErasure],
    reason: str,
    seed: int,
    predecessor: ShiftVersion | None,
    observe: Observer,
) -> list[ErasureResult]:
    """Erases by one training or solve, and registers each concept's shift."""
    for one in prepared:
        require_capacity(one.plan)
    began = time.monotonic()
    unfinished = unfinished_work(workspace, prepared, seed)
    with ExitStack() as stack:
        logs = [
            stack.enter_context(
                workspace.registry.training_run(
                    one.plan.base,
                    one.plan.concept,
                    {
                        **one.plan.hyperparameters,
                        "method": one.plan.method,
                        "seed": seed,
                        "kind": one.plan.kind,
                    },
                )
            )
            for one in prepared
        ]
        erasures = _erase(workspace, prepared, seed, unfinished, logs, observe)
        results = [
            _register(workspace, one, erasure, log, reason, seed, predecessor, began, observe)
            for one, erasure, log in zip(prepared, erasures, logs, strict=True)
        ]
    unfinished.discard()
    return results


def _erase(
    workspace: Workspace,
    prepared: Sequence[PreparedErasure],
    seed: int,
    unfinished: checkpoints.Unfinished,
    logs: Sequence[TrainingLog],
    observe: Observer,
) -> list[Erasure]:
    """Lets the method find the changes, one a concept."""
    eraser = prepared[0].eraser
    weights = pipelines.layer_weights(workspace.pipeline.unet)
    stage = f"training {', '.join(one.plan.concept for one in prepared)}"

    def on_step(step: Step) -> None:
        for log in logs:
            log.metric(step.number, **step.values)
        observe(Progress(stage, step.number, step.limit, step.values))

    problems = [one.problem for one in prepared]
    data = [
        training_data(workspace, one, seed, unfinished, on_step, observe) if eraser.trains else None
        for one in prepared
    ]
    if hasattr(eraser, "erase_jointly"):
        return eraser.erase_jointly(problems, weights, data, seed)
    return [eraser.erase(problems[0], weights, data[0], seed)]


def _register(
    workspace: Workspace,
    prepared: PreparedErasure,
    erasure: Erasure,
    log: TrainingLog,
    reason: str,
    seed: int,
    predecessor: ShiftVersion | None,
    began: float,
    observe: Observer,
) -> ErasureResult:
    """Keeps what the method found as a version of the concept, with its measurements."""
    plan, base = prepared.plan, workspace.base
    shift = ConceptShift(
        concept=plan.concept,
        aliases=plan.aliases,
        kind=plan.kind,
        method=plan.method,
        base_digest=base.digest,
        text_encoder_digest=base.text_encoder_digest,
        support=erasure.support,
        factors=erasure.factors,
        dense=erasure.dense,
        protected=plan.protected,
        protected_digest=tensor_digest(prepared.protected_embeds),
        preserved=plan.preserved,
        hyperparameters={**plan.hyperparameters, "seed": seed},
        metrics=_leak_bound(workspace, plan, erasure, prepared.protected_embeds),
    )
    metrics = {
        **erasure.metrics,
        **shift.metrics,
        **measure_shift(workspace, shift, prepared.protected_embeds),
        "seconds": time.monotonic() - began,
    }
    samples = before_and_after(workspace, shift, observe)
    log.artifact(samples, "samples")
    log.metrics(**metrics, **{f"capacity.{k}": v for k, v in plan.capacity.items()})
    version = register_shift(
        workspace,
        log,
        shift,
        metrics,
        action="refresh" if predecessor else "erase",
        predecessor=predecessor.digest if predecessor else None,
        reason=reason,
    )
    return ErasureResult(
        plan=plan,
        version=version.version,
        digest=shift.digest,
        metrics=metrics,
        stale=tuple(name for name, towards in plan_refresh(workspace) if plan.concept in towards),
        samples=samples,
        statement=f"{plan.concept}: erased (version {version.version})",
    )


def _leak_bound(
    workspace: Workspace, plan: ErasurePlan, erasure: Erasure, protected_embeds: Tensor
) -> dict[str, float]:
    """How far a shift may move what it protects; only where that is not exactly."""
    if "profile" not in plan.hyperparameters or not erasure.factors:
        return {}
    weights = pipelines.layer_weights(workspace.pipeline.unet)
    bounds = (
        leak_bound(rows, erasure.support, factor, weights[layer])
        for layer, factor in erasure.factors.items()
        for rows in protected_embeds
    )
    return {"leak_bound": max(bounds)}


def _activate(workspace: Workspace, name: str, reference: str, reason: str) -> ErasureResult:
    """Erases again with a stored version: nothing is trained."""
    base = workspace.base
    version = workspace.registry.version(base.name, name, reference)
    shift = workspace.shift(version)
    workspace.registry.activate(base.name, name, version.version)
    workspace.audit.append(
        "activate",
        base=base.name,
        concepts=(name,),
        reason=reason,
        digests={"base": base.digest, "shift": shift.digest},
        details={"version": version.version},
    )
    plan = shift_plan(workspace, shift)
    statement = f"{name}: erased (version {version.version}, made active again)"
    return ErasureResult(plan, version.version, version.digest, {}, (), None, statement)
