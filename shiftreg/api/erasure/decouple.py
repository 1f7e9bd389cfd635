"""Making a shift separable that was not trained to be: right-projection into the null space."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.erasure.measures import disturbance, measure_shift, noise_moved
from shiftreg.api.erasure.plan import ErasureContext, ErasureTerms, prepare_erasure
from shiftreg.api.erasure.register import register_shift
from shiftreg.api.values import ErasurePlan, ErasureResult, Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.concepts import Concept, mentions
from shiftreg.erasers import ClosedForm, imitate
from shiftreg.errors import CapacityError, InvalidInputError
from shiftreg.registry import ShiftVersion
from shiftreg.shift import ConceptShift, tensor_digest
from shiftreg.subspace import null_space_basis, project_rows

DECOUPLED = "decoupled"
NOTHING_LEFT = 0.02
WEAK = 0.5


def decouple(
    workspace: Workspace,
    reference: str,
    *,
    refit: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> ErasureResult:
    """Makes a separable version of a shift: what it does to protected prompts is taken away.

    ``delta' = delta S'S`` for the layers that see the text alone; changes of other layers disturb
    every prompt and are left out. Both versions stay registered.

    Args:
        reference: "NAME" (the active version) or "NAME@VERSION".
        refit: Fit what the shift does to the concept's own prompts within the null space, instead
            of projecting: more of the erasure is kept.

    Raises:
        NotFoundError: Unknown concept or version.
        InvalidInputError: The version is separable already.
        CapacityError: Nothing of the erasure is left within the null space.
    """
    spelled, _, number = reference.partition("@")
    name = workspace.find(spelled)
    version = workspace.registry.shifts.version(workspace.base.name, name, number or "active")
    shift = workspace.shift(version)
    if shift.separable:
        raise InvalidInputError(
            f"Version {version.version} of '{name}' is separable: there is nothing to decouple. "
            "If it does not protect what was registered later, run: shiftreg refresh"
        )
    return decouple_version(workspace, version, shift, refit=refit, reason=reason, observe=observe)


def decouple_again(
    workspace: Workspace, version: ShiftVersion, shift: ConceptShift, reason: str
) -> ErasureResult:
    """Decouples the origin of a decoupled version from everything that is registered now."""
    origin = shift.hyperparameters["origin"]
    for candidate in workspace.versions(version.concept):
        if candidate.digest == origin:
            return decouple_version(
                workspace,
                candidate,
                workspace.shift(candidate),
                version.digest,
                refit=shift.hyperparameters["refit"],
                reason=reason,
            )
    raise InvalidInputError(
        f"The shift that '{version.reference}' was decoupled from is no longer registered. "
        "Import it again."
    )


def decouple_version(
    workspace: Workspace,
    version: ShiftVersion,
    shift: ConceptShift,
    predecessor: str | None = None,
    *,
    refit: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> ErasureResult:
    """Projects, measures what that cost and gained, and registers the result.

    Args:
        version: Of the shift that is not separable.
        predecessor: Digest of the version that the new one replaces; the given one's by default.
        refit: As for :func:`decouple`.
    """
    base, encoder = workspace.base, workspace.prompt_encoder
    own = (shift.concept, *shift.aliases)
    names = ("", *base.triggers, *workspace.known_names())
    protected = tuple(n for n in dict.fromkeys(names) if not mentions(n, own))
    protected_embeds = pipelines.encode_prompts(encoder, protected)
    own_embeds = pipelines.encode_prompts(encoder, own)
    observe(Progress(f"decoupling {shift.concept}", 0, 2))
    decoupled = replace(
        _projected(workspace, shift, protected_embeds, refit),
        method=DECOUPLED,
        protected=protected,
        protected_digest=tensor_digest(protected_embeds),
        preserved=(),
        hyperparameters={"origin": shift.digest, "method": shift.method, "refit": refit},
    )
    kept = _kept_share(shift, decoupled, own_embeds)
    if kept < NOTHING_LEFT:
        raise CapacityError(
            f"Decoupled from {len(protected)} protected prompts, the shift keeps {kept:.1%} of "
            f"what it does to '{shift.concept}': it would erase nothing. Protect fewer prompts, or "
            "erase it with closed-form, which finds what the null space allows."
        )
    metrics = {
        "kept_change": kept,
        "left_out_parameters": float(len(shift.layers) - len(decoupled.layers)),
        "drift_before": max(disturbance(workspace, shift, protected_embeds)),
        "noise_on_names_before": min(noise_moved(workspace, shift, own_embeds)),
        "noise_on_names": min(noise_moved(workspace, decoupled, own_embeds)),
        "noise_on_protected_before": max(noise_moved(workspace, shift, protected_embeds)),
        "noise_on_protected": max(noise_moved(workspace, decoupled, protected_embeds)),
        **measure_shift(workspace, decoupled, protected_embeds),
    }
    parameters = {**decoupled.hyperparameters, "kind": shift.kind, "decoupled": True}
    with workspace.registry.trainings.run(base.name, shift.concept, parameters) as log:
        observe(Progress(f"decoupling {shift.concept}", 1, 2))
        log.metrics(**metrics)
        new = register_shift(
            workspace,
            log,
            decoupled,
            metrics,
            action="decouple",
            predecessor=predecessor or version.digest,
            reason=reason,
            digests={"origin": version.digest},
        )
    observe(Progress(f"decoupling {shift.concept}", 2, 2))
    return ErasureResult(
        plan=shift_plan(workspace, decoupled, _warnings(kept, refit)),
        version=new.version,
        digest=decoupled.digest,
        metrics=metrics,
        stale=(),
        statement=f"{shift.concept}: erased (version {new.version}, decoupled from version "
        f"{version.version})",
    )


def shift_plan(
    workspace: Workspace, shift: ConceptShift, warnings: tuple[str, ...] = ()
) -> ErasurePlan:
    """What a shift that is not planned, but there, does."""
    return ErasurePlan(
        base=workspace.base.name,
        concept=shift.concept,
        aliases=shift.aliases,
        kind=shift.kind,
        method=shift.method,
        hyperparameters=shift.hyperparameters,
        prompts=(),
        protected=shift.protected,
        preserved=shift.preserved,
        capacity={},
        warnings=warnings,
    )


def _projected(
    workspace: Workspace, shift: ConceptShift, protected_embeds: Tensor, refit: bool
) -> ConceptShift:
    """What of a shift there is within the null space, in factors of one support."""
    layers = workspace.base.layers
    deltas = {name: shift.delta_weight(name) for name in shift.layers if name in layers}
    basis = null_space_basis(protected_embeds.flatten(0, 1))
    if not deltas:
        raise CapacityError(
            f"The shift of '{shift.concept}' changes no layer that sees the text alone, so nothing "
            "of it can be made separable. Erase the concept with closed-form or srs-me."
        )
    if refit:
        concept = Concept(shift.concept, shift.aliases, shift.kind)  # type: ignore[arg-type]
        terms = ErasureTerms(ClosedForm(), ErasureContext.of(workspace))
        problem = prepare_erasure(workspace, concept, terms).problem
        deltas = imitate(problem, deltas)
    support, factors = project_rows(deltas, basis)
    return replace(
        shift,
        support=support.float().contiguous(),
        factors={name: factor.float().contiguous() for name, factor in factors.items()},
        dense={},
        metrics={},
    )


def _warnings(kept: float, refit: bool) -> tuple[str, ...]:
    if kept >= WEAK or refit:
        return ()
    return (
        f"The projection keeps {kept:.0%} of what the shift does to the concept's own prompts: "
        "expect the concept to remain. Fit it instead: shiftreg decouple --refit",
    )


def _kept_share(before: ConceptShift, after: ConceptShift, embeds: Tensor) -> float:
    """How much of the change of the concept's own keys and values is left."""
    rows = embeds.flatten(0, 1).double()
    moved = sum(float((rows @ before.delta_weight(n).T).square().sum()) for n in after.layers)
    left = sum(float((rows @ after.delta_weight(n).T).square().sum()) for n in after.layers)
    return (left / moved) ** 0.5 if moved else 0.0
