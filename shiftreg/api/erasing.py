"""Erasing concepts, and making their shifts protect what was registered later."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shiftreg import pipelines
from shiftreg.api.planning import (
    PreparedErasure,
    build_eraser,
    named_concepts,
    prepare_erasure,
    require_capacity,
)
from shiftreg.api.samples import before_and_after
from shiftreg.api.values import (
    ErasurePlan,
    ErasureResult,
    Observer,
    Progress,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import save_shift
from shiftreg.concepts import Concept, Kind
from shiftreg.erasers import ClosedForm, Step, TrainingData
from shiftreg.registry import ShiftVersion
from shiftreg.shift import ConceptShift, tensor_digest
from shiftreg.subspace import leak, relative_change

TRAINING_LATENTS = 32


def erase(
    workspace: Workspace,
    names: Sequence[str],
    *,
    aliases: Sequence[str] = (),
    kind: Kind = "style",
    method: str = ClosedForm.name,
    options: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
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
        reason: For the audit trail.
        seed: The same seed gives the same shift.
        observe: Told of the progress.

    Raises:
        CapacityError: The null space is too small to erase a concept.
        InvalidInputError: Unknown method or option, or aliases for more than one concept.
    """
    concepts = named_concepts(workspace, names, aliases, kind)
    eraser = build_eraser(method, options)
    together = (*protect, *(concept.name for concept in concepts))
    results = []
    for name in names:
        spelled, _, reference = name.partition("@")
        if reference:
            results.append(_activate(workspace, workspace.find(spelled), reference, reason))
        else:
            prepared = prepare_erasure(workspace, concepts.pop(0), eraser, together)
            results.append(_run(workspace, prepared, reason, seed, None, observe))
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
        options = dict(old.hyperparameters)
        seed = options.pop("seed")
        prepared = prepare_erasure(
            workspace,
            Concept(old.concept, old.aliases, old.kind),  # type: ignore[arg-type]
            build_eraser(old.method, options),
            old.protected,
        )
        results.append(_run(workspace, prepared, reason, seed, version, observe))
    return tuple(results)


def _run(
    workspace: Workspace,
    prepared: PreparedErasure,
    reason: str,
    seed: int,
    predecessor: ShiftVersion | None,
    observe: Observer,
) -> ErasureResult:
    plan, eraser, base = prepared.plan, prepared.eraser, workspace.base
    require_capacity(plan)
    weights = pipelines.layer_weights(workspace.pipeline.unet)
    parameters = {**plan.hyperparameters, "method": plan.method, "seed": seed, "kind": plan.kind}
    began = time.monotonic()
    with (
        workspace.registry.training_run(base.name, plan.concept, parameters) as log,
        tempfile.TemporaryDirectory() as scratch,
    ):

        def on_step(step: Step) -> None:
            log.metric(step.number, **step.values)
            observe(Progress(f"training {plan.concept}", step.number, step.limit, step.values))

        data = (
            _training_data(workspace, prepared, seed, on_step, observe) if eraser.trains else None
        )
        erasure = eraser.erase(prepared.problem, weights, data, seed)
        shift = ConceptShift(
            concept=plan.concept,
            aliases=plan.aliases,
            kind=plan.kind,
            method=plan.method,
            base_digest=base.digest,
            text_encoder_digest=base.text_encoder_digest,
            support=erasure.support,
            factors=erasure.factors,
            protected=plan.protected,
            protected_digest=tensor_digest(prepared.protected_embeds),
            preserved=plan.preserved,
            hyperparameters={**plan.hyperparameters, "seed": seed},
        )
        metrics = {
            **erasure.metrics,
            "relative_change": max(
                relative_change(shift.delta_weight(layer), weights[layer]) for layer in shift.layers
            ),
            "worst_leak": max(
                leak(rows, shift.delta_weight(layer), weights[layer])
                for layer in shift.layers
                for rows in prepared.protected_embeds
            ),
            "rank": float(shift.rank),
            "seconds": time.monotonic() - began,
        }
        shift_file = Path(scratch) / "shift.safetensors"
        save_shift(shift, shift_file)
        samples = before_and_after(workspace, shift, observe)
        log.artifact(samples, "samples")
        log.metrics(**metrics, **{f"capacity.{k}": v for k, v in plan.capacity.items()})
        version = workspace.registry.register_shift(
            base.name,
            log,
            shift_file,
            {**shift.metadata(), "digest": shift.digest},
            metrics=metrics,
            predecessor=predecessor.digest if predecessor else None,
            reason=reason,
        )
    workspace.audit.append(
        "refresh" if predecessor else "erase",
        base=base.name,
        concepts=(plan.concept,),
        reason=reason,
        digests={"base": base.digest, "shift": shift.digest}
        | ({"predecessor": predecessor.digest} if predecessor else {}),
        details={"version": version.version, "method": plan.method},
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


def _training_data(
    workspace: Workspace,
    prepared: PreparedErasure,
    seed: int,
    on_step: Callable[[Step], None],
    observe: Observer,
) -> TrainingData:
    """Lets the base paint the concept: a third by its bare names, the rest in other wordings."""
    draw = random.Random(seed)
    bare = [i for i, pair in enumerate(prepared.pairs) if pair.prompt in prepared.concept.names]
    picks = [
        draw.choice(bare) if i % 3 == 0 else draw.randrange(len(prepared.pairs))
        for i in range(TRAINING_LATENTS)
    ]
    base = workspace.base
    latents = pipelines.generate(
        workspace.pipeline,
        [prepared.pairs[i].prompt for i in picks],
        [draw.randrange(2**31) for _ in picks],
        steps=base.steps,
        guidance=base.guidance,
        latents=True,
        observe=lambda done: observe(
            Progress(f"painting {prepared.concept.name}", done, TRAINING_LATENTS)
        ),
    )
    return TrainingData(pipelines.Denoiser(workspace.pipeline), latents, tuple(picks), on_step)


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
    plan = ErasurePlan(
        base=base.name,
        concept=name,
        aliases=shift.aliases,
        kind=shift.kind,
        method=shift.method,
        hyperparameters=shift.hyperparameters,
        prompts=(),
        protected=shift.protected,
        preserved=shift.preserved,
        capacity={},
        warnings=(),
    )
    statement = f"{name}: erased (version {version.version}, made active again)"
    return ErasureResult(plan, version.version, version.digest, {}, (), None, statement)
