"""Adapters: files that switch concepts off in a running server, at a strength of its choice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from shiftreg import checkpoints
from shiftreg.api.composition.adapter_content import adapter_content, held_ranks
from shiftreg.api.composition.compose import named_dtype, plan_composition, plan_shifts
from shiftreg.api.composition.describe import base_facts, describe
from shiftreg.api.composition.export import make_recipe
from shiftreg.api.release.release import Release
from shiftreg.api.release.values import PLAIN, ReleaseRequest
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan, Observer, Progress, ReleaseFiles, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import AdapterForm
from shiftreg.checks import Check
from shiftreg.errors import InvalidInputError
from shiftreg.plugins import is_recoverable


@dataclass(frozen=True)
class AdapterResult:
    """An adapter that was written and registered.

    Attributes:
        plan: What it holds.
        version: Of the composition in the registry.
        exact: Whether it holds the shifts' own numbers.
        change_kept: Share of the change's square that it holds, of the layer where that is least.
        max_drift: How far it moves a prompt that all its shifts protect, relative to its keys and
            values; None if it is exact, and moves them as the shifts do.
        plain_drift: The same after plain rounding, without regard to protected prompts.
        overridden: Gates of the policy that it breaks, and was released against.
        passed: Whether its verification passed; None if it was not verified.
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
    max_drift: float | None
    plain_drift: float | None
    release: ReleaseFiles = field(default_factory=ReleaseFiles)
    overridden: tuple[Check, ...] = ()
    passed: bool | None = None


def export_adapter(
    workspace: Workspace,
    plan: AdapterPlan,
    *,
    overwrite: bool = False,
    request: ReleaseRequest = PLAIN,
    observe: Observer = ignore_progress,
) -> AdapterResult:
    """Writes an adapter with its recipe and card beside it, and registers them.

    It is held to the project's policy as a whole model is, but for what the policy says of what a
    model generates.

    Args:
        plan: From :func:`~shiftreg.api.plan_adapter`.
        request: Verification (at strength 1), signature, bill of materials, override, reason.

    Raises:
        ReleaseRefusedError: It breaks the policy, or a gate; nothing was written.
        AlreadyExistsError: The target, its recipe or its card exists.
        InvalidInputError: The target lies in the base, a value does not fit the dtype, no key to
            sign with, or no reason to override.
        StorageError: The disk is full or read-only.
        MissingExtraError: A library for signatures or bills is not installed.
    """
    target, composed = plan.target, plan.plan
    checkpoints.check_adapter_name(target)
    checkpoints.check_export_target(workspace.folder, target, overwrite)
    release = Release(workspace, composed, target, request, observe, is_adapter=True)
    content = adapter_content(
        workspace,
        plan_shifts(workspace, composed),
        plan.form,
        named_dtype(plan.dtype),
        plan.rank,
        observe,
    )
    observe(Progress("writing", 0, 1))
    how = {"form": plan.form, "rank": plan.rank, "strength": plan.strength}

    def write(path: Path) -> checkpoints.Export:
        recipe = make_recipe(workspace, composed, plan.dtype) | {"adapter": how}
        recipe |= release.recipe_entry()
        said = describe(workspace, composed, recipe, target, plan.form, plan.ranks)
        made = checkpoints.write_adapter(path, content.tensors, recipe, said.metadata)
        said.write_card(path, made.digest)
        return made

    published = release.publish(
        write,
        form=f"adapter, {plan.form}",
        overwrite=overwrite,
        details={"strength": plan.strength},
    )
    made = published.export
    observe(Progress("writing", 1, 1))
    return AdapterResult(
        plan=plan,
        path=target,
        digest=made.digest,
        recipe_path=made.recipe_path,
        recipe_digest=made.recipe_digest,
        card_path=checkpoints.card_path_of(target),
        version=published.version,
        exact=plan.dtype == "float32" and plan.rank is None,
        change_kept=content.kept,
        max_drift=content.drift,
        plain_drift=content.plain_drift,
        release=published.files,
        overridden=published.overridden,
        passed=published.passed,
    )


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
        strength: What strengths mean, as a sentence.
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
    item_size = named_dtype(dtype).itemsize
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
        size=numbers * item_size,
        strength=f"At strength 1: {erased} erased. At strength 0: as without it. Between: in part.",
        # That a concept generates is no release of it: an adapter holds nothing of the base.
        warnings=tuple(w for w in plan.warnings if "cannot be exported" not in w),
    )
