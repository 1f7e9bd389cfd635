"""The weights of a composition for a pipeline that is running: what an export would hold."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from shiftreg import checkpoints
from shiftreg.api.composition.composing import (
    DTYPES,
    exact_weights,
    plan_composition,
    plan_shifts,
)
from shiftreg.api.composition.half_precision import (
    CompensatedRounding,
    RoundedWeights,
    is_rounded,
    protected_prompts,
)
from shiftreg.api.erasure.methods import require_recoverable
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError


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
        workspace: Where.
        selection: Of shifts; by default every active one applies.
        dtype: "float32", "float16" or "bfloat16": that of the pipeline; the base's file's by
            default.
        observe: Told of the progress.

    Returns:
        Parameter -> its value, as ``pipelines.LiveComposer.switch`` takes it; empty where no shift
        applies.

    Raises:
        InvalidInputError: An unknown dtype, values that do not fit into it, or a concept generates
            that must never return.
        NotFoundError: An unknown concept, or ``only`` names one without a shift.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"There is no dtype '{dtype}'. Dtypes: {', '.join(DTYPES)}.")
    plan = plan_composition(workspace, selection)
    for active in workspace.registry.shifts.active(workspace.base.name):
        if plan.states.get(active.concept) == "generates":
            require_recoverable(active)
    composition = plan_shifts(workspace, plan)
    precision = DTYPES[dtype] if dtype else checkpoints.unet_dtype(workspace.folder)
    weights: Mapping[str, Tensor] = exact_weights(workspace, composition)
    if is_rounded(workspace, composition, precision):
        how = CompensatedRounding(protected_prompts(workspace, plan.states, composition))
        weights = RoundedWeights(workspace, weights, precision, how, observe=observe)
    return {name: weight.to(precision) for name, weight in weights.items()}
