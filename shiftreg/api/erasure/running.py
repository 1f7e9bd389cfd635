"""Running what was planned: a training or a solve, its measurements, its versions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from torch import Tensor

from shiftreg import checkpoints, pipelines
from shiftreg.api.composition.samples import before_and_after
from shiftreg.api.erasure.planning import PreparedErasure, require_capacity
from shiftreg.api.erasure.registering import measure_shift, register_shift
from shiftreg.api.erasure.training_data import training_data, unfinished_work
from shiftreg.api.states import plan_refresh
from shiftreg.api.values import ErasurePlan, ErasureResult, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.erasers import Erasure, Step
from shiftreg.profiles import leak_bound
from shiftreg.registry import ShiftVersion
from shiftreg.registry.training import TrainingLog
from shiftreg.shift import ConceptShift, tensor_digest


def run_erasure(
    workspace: Workspace,
    prepared: Sequence[PreparedErasure],
    reason: str,
    seed: int,
    predecessor: ShiftVersion | None,
    observe: Observer,
) -> list[ErasureResult]:
    """Erases by one training or solve, and registers each concept's shift.

    Args:
        workspace: Where.
        prepared: One concept; several for a method that trains them jointly.
        reason: For the audit trail.
        seed: The same seed gives the same shifts.
        predecessor: The version that is made anew.
        observe: Told of the progress.

    Raises:
        CapacityError: The null space is too small to erase a concept.
    """
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
    weights = pipelines.layer_weights(workspace.network)
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
    weights = pipelines.layer_weights(workspace.network)
    bounds = (
        leak_bound(rows, erasure.support, factor, weights[layer])
        for layer, factor in erasure.factors.items()
        for rows in protected_embeds
    )
    return {"leak_bound": max(bounds)}
