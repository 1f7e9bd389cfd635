"""What an adapter would hold, and what no adapter can."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from shiftreg import checkpoints
from shiftreg.api.composition.adapter_content import held_ranks
from shiftreg.api.composition.composing import DTYPES, plan_composition, plan_shifts
from shiftreg.api.composition.describing import base_facts
from shiftreg.api.erasure.methods import is_recoverable
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import AdapterForm
from shiftreg.errors import InvalidInputError


@dataclass(frozen=True)
class AdapterPlan:
    """What an adapter would hold.

    Attributes:
        target: The file to write.
        plan: The composition that it makes of the base at strength 1.
        form: "diffusers", "kohya" or "diff".
        dtype: Of its numbers.
        rank: The most ranks of a layer, where fewer than all were asked for.
        parameters: How many it changes.
        ranks: Of the layers that are factored, each once.
        size: Of its tensors in bytes.
        strength: What strengths mean, in words.
        warnings: Sentences to show.
    """

    target: Path
    plan: CompositionPlan
    form: AdapterForm
    dtype: str
    rank: int | None
    parameters: int
    ranks: tuple[int, ...]
    size: int
    strength: str
    warnings: tuple[str, ...]


def plan_adapter(
    workspace: Workspace,
    target: Path,
    selection: Selection = ACTIVE,
    *,
    form: str = "diffusers",
    dtype: str = "float32",
    rank: int | None = None,
) -> AdapterPlan:
    """Decides what an adapter holds.

    Args:
        workspace: Where.
        target: The ``.safetensors`` file to write.
        selection: What it erases.
        form: "diffusers" or "kohya" (a LoRA), or "diff" (dense differences).
        dtype: "float32" holds the shifts' own numbers; "float16" and "bfloat16" are rounded.
        rank: Approximate each layer's change by at most this rank; by default it is exact.

    Raises:
        NotFoundError: A concept is unknown, or was never erased.
        InvalidInputError: The target is no safetensors file, there is no such form or dtype, the
            form cannot hold the change, or a concept must never return.
    """
    checkpoints.check_adapter_name(target)
    if form not in checkpoints.ADAPTER_FORMS:
        raise InvalidInputError(
            f"There is no form '{form}'. Forms: {', '.join(checkpoints.ADAPTER_FORMS)}."
        )
    if dtype not in DTYPES:
        raise InvalidInputError(f"There is no dtype '{dtype}'. Dtypes: {', '.join(DTYPES)}.")
    if rank is not None and (rank < 1 or form == "diff"):
        raise InvalidInputError(
            "A rank is at least 1, and belongs to the forms that have one: diffusers and kohya."
        )
    plan = plan_composition(workspace, selection)
    if not plan.shifts:
        raise InvalidInputError(
            "An adapter erases something, and no shift is left in this one. "
            "Name concepts that were erased. See: shiftreg list"
        )
    for concept, number, _ in plan.shifts:
        version = workspace.registry.shifts.version(workspace.base.name, concept, str(number))
        if not is_recoverable(version):
            raise InvalidInputError(
                f"'{concept}' was erased by {version.method}, which is for concepts that must "
                "never return, and an adapter can be switched off. Export a whole model: "
                "shiftreg compose --export FILE"
            )
    composition = plan_shifts(workspace, plan)
    facts = base_facts(workspace)
    names = checkpoints.AdapterNames.of(workspace.folder, facts)
    names.check_form(form)
    shapes = {name: names.shape(name) for name in composition.layers}
    ranks: dict[str, int] = {}
    numbers = sum(map(math.prod, shapes.values()))
    if form != "diff":
        ranks = held_ranks(composition, names, cast(AdapterForm, form), rank)
        numbers = sum(
            ranks[name] * (shape[0] + math.prod(shape[1:])) for name, shape in shapes.items()
        )
    erased = checkpoints.joined([name for name, _, _ in plan.shifts])
    return AdapterPlan(
        target=target,
        plan=plan,
        form=cast(AdapterForm, form),
        dtype=dtype,
        rank=rank,
        parameters=len(composition.layers),
        ranks=tuple(sorted(set(ranks.values()))),
        size=numbers * DTYPES[dtype].itemsize,
        strength=f"At strength 1: {erased} erased. At strength 0: as without it. Between: in part.",
        # That a concept generates is no release of it: an adapter holds nothing of the base.
        warnings=tuple(w for w in plan.warnings if "cannot be exported" not in w),
    )
