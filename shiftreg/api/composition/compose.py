"""Composing shifts onto the base: which apply, and what that makes of every concept."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shiftreg import checkpoints
from shiftreg.api.composition.half_precision import (
    CompensatedRounding,
    RoundedWeights,
    is_rounded,
    protected_prompts,
)
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan, Observer, State, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition, LazyWeights
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.plugins import is_recoverable, require_recoverable
from shiftreg.registry import ShiftVersion
from shiftreg.registry.shifts import unprotected

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def named_dtype(name: str) -> torch.dtype:
    """A dtype by its name.

    Raises:
        InvalidInputError: There is no such one.
    """
    if name not in DTYPES:
        raise InvalidInputError(f"There is no dtype '{name}'. Dtypes: {', '.join(DTYPES)}.")
    return DTYPES[name]


def plan_composition(workspace: Workspace, selection: Selection = ACTIVE) -> CompositionPlan:
    """Decides which shifts apply, and says for every known concept what that means.

    Args:
        selection: Of shifts; by default every active one applies.

    Raises:
        NotFoundError: An unknown concept, or ``only`` names one without a shift.
        IntegrityError: The registry and the audit trail disagree on what is active.
    """
    workspace.require_agreement()
    return compose_registered(workspace, selection)


def compose_registered(workspace: Workspace, selection: Selection = ACTIVE) -> CompositionPlan:
    """The same by the registry alone, whatever the audit trail says: for what is not released."""
    base, registry = workspace.base, workspace.registry
    active = {version.concept: version for version in registry.shifts.active(base.name)}
    warnings: list[str] = []
    if selection.only is not None:
        chosen = {}
        for name in map(workspace.find, selection.only):
            chosen[name] = active.get(name) or _newest(workspace, name)
    else:
        left_out = {workspace.find(name) for name in selection.without or ()}
        warnings += [
            f"{name} is not erased, so leaving its shift out changes nothing."
            for name in sorted(left_out - set(active))
        ]
        chosen = {name: version for name, version in active.items() if name not in left_out}
    shifts = [workspace.shift(version) for version in chosen.values()]
    composition = Composition.of(base.digest, shifts)
    for version, towards in unprotected(registry.shifts.by_concept(base.name)).items():
        restored = [name for name in towards if name not in chosen]
        if version.concept in chosen and restored:
            warnings.append(
                f"The shift of {version.concept} does not protect {', '.join(restored)}, which may "
                "not generate exactly as before. Run: shiftreg refresh"
            )
    warnings += [
        f"{name} generates here, and was erased by {version.method}, which is for concepts that "
        "must never return: this composition cannot be exported."
        for name, version in active.items()
        if name not in chosen and not is_recoverable(version)
    ]
    states: dict[str, State] = {
        name: "erased" if name in chosen else "generates"
        for name in sorted(workspace.known_names(), key=str.lower)
    }
    numbers = {version.digest: version for version in chosen.values()}
    return CompositionPlan(
        base=base.name,
        base_digest=base.digest,
        digest=composition.digest,
        shifts=tuple((s.concept, numbers[s.digest].version, s.digest) for s in composition.shifts),
        states=states,
        statements=tuple(_statement(name, state, chosen, active) for name, state in states.items()),
        warnings=tuple(warnings),
    )


def exact_weights(workspace: Workspace, composition: Composition) -> LazyWeights:
    """The weights that a composition changes, each computed from the base's file when needed.

    In float64: a checkpoint reaches its own dtype in one step, when it is written.
    """
    read = checkpoints.parameter_reader(workspace.folder)
    return LazyWeights(read, composition, torch.float64)


def plan_shifts(workspace: Workspace, plan: CompositionPlan) -> Composition:
    """Loads the shifts of a plan."""
    shifts = [workspace.shift_of(concept, version) for concept, version, _ in plan.shifts]
    return Composition.of(plan.base_digest, shifts)


def _newest(workspace: Workspace, name: str) -> ShiftVersion:
    versions = workspace.versions(name)
    if not versions:
        raise NotFoundError(
            f"'{name}' has no shift to apply: it was never erased. Run: shiftreg erase \"{name}\""
        )
    return versions[-1]


def _statement(
    name: str, state: State, chosen: dict[str, ShiftVersion], active: dict[str, ShiftVersion]
) -> str:
    if state == "erased":
        return f"{name}: erased (version {chosen[name].version})"
    return f"{name}: generates" + (" (restored: its shift is left out)" if name in active else "")


def composition_weights(
    workspace: Workspace,
    selection: Selection = ACTIVE,
    *,
    dtype: str | None = None,
    observe: Observer = ignore_progress,
) -> dict[str, Tensor]:
    """The weights that a composition changes, bit for bit as an export in that dtype holds them.

    In half precision they are rounded so that protected prompts hardly notice, which takes a while
    once; switching between compositions whose weights are there takes none of it.

    Args:
        selection: Of shifts; by default every active one applies.
        dtype: "float32", "float16" or "bfloat16": that of the pipeline; the base's file's by
            default.

    Returns:
        Parameter -> its value, as ``pipelines.LiveComposer.switch`` takes it; empty where no shift
        applies.

    Raises:
        InvalidInputError: An unknown dtype, values that do not fit into it, or a concept generates
            that must never return.
        NotFoundError: An unknown concept, or ``only`` names one without a shift.
    """
    own = checkpoints.unet_dtype(workspace.folder)
    precision = own if dtype is None else named_dtype(dtype)
    plan = plan_composition(workspace, selection)
    for active in workspace.registry.shifts.active(workspace.base.name):
        if plan.states.get(active.concept) == "generates":
            require_recoverable(active)
    composition = plan_shifts(workspace, plan)
    weights: Mapping[str, Tensor] = exact_weights(workspace, composition)
    if is_rounded(workspace, composition, precision):
        how = CompensatedRounding(protected_prompts(workspace, plan.states, composition))
        weights = RoundedWeights(workspace, weights, precision, how, observe=observe)
    return {name: weight.to(precision) for name, weight in weights.items()}
