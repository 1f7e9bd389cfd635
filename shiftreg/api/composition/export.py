"""Exporting a composition as one deployable model, with what says how it came about."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from torch import Tensor

import shiftreg
from shiftreg import checkpoints
from shiftreg.api.composition.compose import exact_weights, named_dtype, plan_shifts
from shiftreg.api.composition.describe import describe, export_date
from shiftreg.api.composition.half_precision import (
    METHODS,
    CompensatedRounding,
    RoundedWeights,
    is_rounded,
    protected_prompts,
)
from shiftreg.api.release.release import Release
from shiftreg.api.release.values import PLAIN, ReleaseRequest
from shiftreg.api.values import CompositionPlan, ExportResult, Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError
from shiftreg.plugins import require_recoverable


def export_composition(
    workspace: Workspace,
    plan: CompositionPlan,
    target: Path,
    *,
    dtype: str | None = None,
    rounding: str = "compensated",
    overwrite: bool = False,
    request: ReleaseRequest = PLAIN,
    observe: Observer = ignore_progress,
) -> ExportResult:
    """Writes a composition as one model, with its recipe and model card, and registers them.

    What the policy of the project requires is checked before; the file, where it is to be verified,
    before it appears. All of it appears, or nothing.

    Args:
        target: ``.ckpt`` or ``.safetensors`` (CompVis keys), or a folder (diffusers).
        dtype: "float32", "float16" or "bfloat16"; the base's by default.
        rounding: To half precision: with "compensated", so that protected prompts hardly notice it,
            or "plain", which takes no time and needs no text encoder.
        request: Verification, signature, bill of materials, override and reason.

    Raises:
        ReleaseRefusedError: It breaks the policy, or a gate; nothing was written.
        AlreadyExistsError: The target exists.
        StorageError: The disk is full or read-only.
        InvalidInputError: Unknown suffix, dtype or rounding, a concept generates that must never
            return, no key to sign with, or no reason to override.
        MissingExtraError: A library for signatures or bills is not installed.
    """
    target_dtype = None if dtype is None else named_dtype(dtype)
    if rounding not in METHODS:
        raise InvalidInputError(f"Rounding is {' or '.join(METHODS)}, and not '{rounding}'.")
    for active in workspace.registry.shifts.active(workspace.base.name):
        if plan.states.get(active.concept) == "generates":
            require_recoverable(active)
    form = checkpoints.export_format(target)
    checkpoints.check_export_target(workspace.folder, target, overwrite)
    release = Release(workspace, plan, target, request, observe)
    observe(Progress("composing", 0, 2))
    composition = plan_shifts(workspace, plan)
    weights: Mapping[str, Tensor] = exact_weights(workspace, composition)
    how = rounded = None
    if rounding == "compensated" and is_rounded(workspace, composition, target_dtype):
        how = CompensatedRounding(protected_prompts(workspace, plan.states, composition))
        weights = rounded = RoundedWeights(workspace, weights, target_dtype, how, observe=observe)
    observe(Progress("writing", 1, 2))

    def write(path: Path) -> checkpoints.Export:
        recipe = make_recipe(workspace, plan, dtype, how) | release.recipe_entry()
        said = describe(workspace, plan, recipe, target, form)
        made = checkpoints.write_checkpoint(
            workspace.folder,
            weights,
            path,
            recipe,
            dtype=target_dtype,
            metadata=said.metadata,
            card=said.card(""),
            form=form,
        )
        if form != "folder":  # which holds its card
            said.write_card(path, made.digest)
        return made

    def measured() -> dict[str, Any]:
        return {"rounding": asdict(rounded.effect())} if rounded is not None else {}

    published = release.publish(write, form=form, overwrite=overwrite, measured=measured)
    export = published.export
    observe(Progress("writing", 2, 2))
    return ExportResult(
        plan=plan,
        path=export.path,
        format=export.format,
        digest=export.digest,
        dtype=export.dtype,
        recipe_path=export.recipe_path,
        recipe_digest=export.recipe_digest,
        version=published.version,
        card_path=target / "README.md" if form == "folder" else checkpoints.card_path_of(target),
        release=published.files,
        overridden=published.overridden,
        passed=published.passed,
        rounding=rounded.effect() if rounded is not None else None,
    )


def make_recipe(
    workspace: Workspace,
    plan: CompositionPlan,
    dtype: str | None,
    rounding: CompensatedRounding | None = None,
) -> dict[str, Any]:
    """All that is needed to make the same file again."""
    return {
        "format": "shiftreg-recipe-1",
        "base": {"name": plan.base, "digest": plan.base_digest, "source": workspace.base.source},
        "composition": plan.digest,
        "shifts": [
            {"concept": concept, "version": version, "digest": digest}
            for concept, version, digest in plan.shifts
        ],
        "order": "ascending digest, summed in float64",
        "cast": "by torch, to half precision by way of float32"
        + ("; layers that read the text alone as 'rounding' says" if rounding else ""),
        "states": dict(plan.states),
        "dtype": dtype or "base",
        "date": export_date(workspace, plan),
        "tools": {"shiftreg": shiftreg.__version__, "python": platform.python_version()}
        | {name: library_version(name) for name in ("torch", "diffusers", "safetensors")},
    } | ({"rounding": rounding.as_recipe()} if rounding else {})
