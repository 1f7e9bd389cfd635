"""Adapters: files that switch concepts off in a running server, at a strength of its choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from shiftreg import checkpoints
from shiftreg.api.changes import change
from shiftreg.api.composition.adapter_content import adapter_content, held_ranks
from shiftreg.api.composition.composing import (
    DTYPES,
    plan_composition,
    plan_shifts,
)
from shiftreg.api.composition.describing import base_facts, describe_adapter
from shiftreg.api.composition.exporting import make_recipe
from shiftreg.api.erasure.methods import is_recoverable
from shiftreg.api.recovery import placing
from shiftreg.api.values import CompositionPlan, Observer, Progress, ignore_progress
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


@dataclass(frozen=True)
class AdapterResult:
    """An adapter that was written and registered.

    Attributes:
        plan: What it holds.
        path: The file.
        digest: Of the file.
        recipe_path: The recipe beside it.
        recipe_digest: Of the recipe.
        card_path: The model card beside it.
        version: Of the composition in the registry.
        exact: Whether it holds the shifts' own numbers.
        change_kept: Share of the change's square that it holds, of the layer where that is least.
        worst_leak: How far it moves a prompt that all its shifts protect, relative to its keys and
            values; None if it is exact, and moves them as the shifts do.
        plain_leak: The same after plain rounding, without regard to protected prompts.
    """

    plan: AdapterPlan
    path: Path
    digest: str
    recipe_path: Path
    recipe_digest: str
    card_path: Path
    version: int
    exact: bool
    change_kept: float
    worst_leak: float | None
    plain_leak: float | None


def plan_adapter(
    workspace: Workspace,
    target: Path,
    concepts: Sequence[str] = (),
    *,
    without: Sequence[str] | None = None,
    form: str = "diffusers",
    dtype: str = "float32",
    rank: int | None = None,
) -> AdapterPlan:
    """Decides what an adapter holds.

    Args:
        workspace: Where.
        target: The ``.safetensors`` file to write.
        concepts: That it erases; all that are erased by default.
        without: Leave these out; not together with ``concepts``.
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
    plan = plan_composition(workspace, only=list(concepts) or None, without=without)
    if not plan.shifts:
        raise InvalidInputError(
            "An adapter erases something, and no shift is left in this one. "
            "Name concepts that were erased. See: shiftreg list"
        )
    for concept, number, _ in plan.shifts:
        version = workspace.registry.version(workspace.base.name, concept, str(number))
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


def export_adapter(
    workspace: Workspace,
    plan: AdapterPlan,
    *,
    overwrite: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> AdapterResult:
    """Writes an adapter with its recipe and card beside it, and registers them.

    Args:
        workspace: Where.
        plan: From :func:`plan_adapter`.
        overwrite: Replace an existing file.
        reason: For the audit trail.
        observe: Told of the progress.

    Raises:
        AlreadyExistsError: The target, its recipe or its card exists.
        InvalidInputError: The target lies in the base, or a value does not fit the dtype.
        StorageError: The disk is full or read-only.
    """
    target = plan.target
    checkpoints.check_adapter_target(workspace.folder, target, overwrite)
    composed, base = plan.plan, plan.plan.base
    content = adapter_content(
        workspace,
        plan_shifts(workspace, composed),
        plan.form,
        DTYPES[plan.dtype],
        plan.rank,
        observe,
    )
    recipe = make_recipe(workspace, composed, plan.dtype)
    recipe["adapter"] = {"form": plan.form, "rank": plan.rank, "strength": plan.strength}
    said = describe_adapter(workspace, composed, recipe, target, plan.ranks)
    observe(Progress("writing", 0, 1))
    family = checkpoints.recipe_path_of(target), checkpoints.card_path_of(target)
    states, form = composed.states, f"adapter, {plan.form}"
    with (
        change(
            workspace,
            "export",
            base=base,
            concepts=tuple(name for name, state in states.items() if state == "erased"),
            reason=reason,
            digests={"base": composed.base_digest, "composition": composed.digest},
            details={
                "path": str(target),
                "form": form,
                "strength": plan.strength,
                "states": dict(states),
            },
            recovery=placing(target, family),
        ) as announced,
        checkpoints.placed_together(target, family, overwrite) as placement,
    ):
        made = checkpoints.write_adapter(placement.path, content.tensors, recipe, said.metadata)
        said.write_card(placement.path, made.digest)
        placement.place()
        # Without record and event no file stays: what fails from here on takes it away again.
        version = workspace.registry.register_composition(
            base,
            [workspace.registry.version(base, name, number) for name, number, _ in composed.shifts],
            digest=composed.digest,
            form=form,
            restored=[name for name, state in states.items() if state == "generates"],
            export_path=str(target.absolute()),
            export_digest=made.digest,
            recipe_digest=made.recipe_digest,
            files=family,
            reason=reason,
        )
        announced.digests |= {
            "export": made.digest,
            "recipe": made.recipe_digest,
            "record": version.seal,
        }
        announced.tell()
    observe(Progress("writing", 1, 1))
    return AdapterResult(
        plan=plan,
        path=target,
        digest=made.digest,
        recipe_path=family[0],
        recipe_digest=made.recipe_digest,
        card_path=family[1],
        version=version.version,
        exact=plan.dtype == "float32" and plan.rank is None,
        change_kept=content.kept,
        worst_leak=content.leak,
        plain_leak=content.plain_leak,
    )
