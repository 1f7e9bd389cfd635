"""Composing shifts onto the base, and exporting the result as one deployable model."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import torch

import shiftreg
from shiftreg import checkpoints
from shiftreg.api.erasure.methods import is_recoverable, require_recoverable
from shiftreg.api.values import (
    CompositionPlan,
    ExportResult,
    Observer,
    Progress,
    State,
    ignore_progress,
)
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition, LazyWeights
from shiftreg.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from shiftreg.registry import ShiftVersion

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def plan_composition(
    workspace: Workspace,
    *,
    only: Sequence[str] | None = None,
    without: Sequence[str] | None = None,
) -> CompositionPlan:
    """Decides which shifts apply, and says for every known concept what that means.

    Args:
        workspace: Where.
        only: Apply the shifts of these concepts and no others.
        without: Leave the shifts of these concepts out: they generate again, all other erased
            concepts stay erased.

    Returns:
        The plan; by default every active shift applies.

    Raises:
        InvalidInputError: Both ``only`` and ``without``.
        NotFoundError: An unknown concept, or ``only`` names one without a shift.
    """
    if only is not None and without is not None:
        raise InvalidInputError("--only and --without exclude each other. Give one of them.")
    base, registry = workspace.base, workspace.registry
    active = {version.concept: version for version in registry.active(base.name)}
    warnings: list[str] = []
    if only is not None:
        chosen = {}
        for name in map(workspace.find, only):
            chosen[name] = active.get(name) or _newest(workspace, name)
    else:
        left_out = {workspace.find(name) for name in without or ()}
        warnings += [
            f"{name} is not erased, so leaving its shift out changes nothing."
            for name in sorted(left_out - set(active))
        ]
        chosen = {name: version for name, version in active.items() if name not in left_out}
    shifts = [workspace.shift(version) for version in chosen.values()]
    composition = Composition.of(base.digest, shifts)
    for version, towards in registry.stale(base.name).items():
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


def export_composition(
    workspace: Workspace,
    plan: CompositionPlan,
    target: Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    reason: str = "",
    observe: Observer = ignore_progress,
) -> ExportResult:
    """Writes a composition as one model, with a recipe beside it, and registers both.

    Args:
        workspace: Where.
        plan: What to compose.
        target: ``.ckpt`` or ``.safetensors`` (CompVis keys), or a folder (diffusers).
        dtype: "float32", "float16" or "bfloat16"; the base's by default.
        overwrite: Replace an existing file.
        reason: For the audit trail.
        observe: Told of the progress.

    Raises:
        AlreadyExistsError: The target exists.
        StorageError: The disk is full or read-only.
        InvalidInputError: Unknown suffix or dtype, or a concept generates that must never return.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"There is no dtype '{dtype}'. Dtypes: {', '.join(DTYPES)}.")
    for active in workspace.registry.active(workspace.base.name):
        if plan.states.get(active.concept) == "generates":
            require_recoverable(active)
    observe(Progress("composing", 0, 2))
    composition = plan_shifts(workspace, plan)
    observe(Progress("writing", 1, 2))
    with _withdrawn_on_failure(target):
        export = checkpoints.export_checkpoint(
            workspace.folder,
            exact_weights(workspace, composition),
            target,
            _recipe(workspace, plan, dtype),
            dtype=DTYPES[dtype] if dtype else None,
            overwrite=overwrite,
        )
        base = workspace.base.name
        version = workspace.registry.register_composition(
            base,
            [workspace.registry.version(base, name, number) for name, number, _ in plan.shifts],
            digest=plan.digest,
            restored=[name for name, state in plan.states.items() if state == "generates"],
            export_path=str(export.path.absolute()),
            export_digest=export.digest,
            recipe_digest=export.recipe_digest,
            files=[export.recipe_path],
            reason=reason,
        )
        workspace.audit.append(
            "export",
            base=plan.base,
            concepts=tuple(name for name, state in plan.states.items() if state == "erased"),
            reason=reason,
            digests={
                "base": plan.base_digest,
                "composition": plan.digest,
                "export": export.digest,
                "recipe": export.recipe_digest,
            },
            details={"path": str(export.path), "states": dict(plan.states)},
        )
    observe(Progress("writing", 2, 2))
    return ExportResult(
        plan=plan,
        path=export.path,
        format=export.format,
        digest=export.digest,
        dtype=export.dtype,
        recipe_path=export.recipe_path,
        recipe_digest=export.recipe_digest,
        version=version.version,
    )


def exact_weights(workspace: Workspace, composition: Composition) -> LazyWeights:
    """The weights that a composition changes, each computed from the base's file when needed.

    In float64: a checkpoint reaches its own dtype by one cast, when it is written.
    """
    read = checkpoints.parameter_reader(workspace.folder)
    return LazyWeights(read, composition, torch.float64)


@contextmanager
def _withdrawn_on_failure(target: Path) -> Iterator[None]:
    """Takes a new export away again if it cannot be registered: no file without its record."""
    new = [p for p in (target, checkpoints.recipe_path_of(target)) if not os.path.lexists(p)]
    try:
        yield
    except AlreadyExistsError:
        raise  # what is there is another writer's
    except BaseException:
        for path in new:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        raise


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
    name: str,
    state: State,
    chosen: dict[str, ShiftVersion],
    active: dict[str, ShiftVersion],
) -> str:
    if state == "erased":
        return f"{name}: erased (version {chosen[name].version})"
    return f"{name}: generates" + (" (restored: its shift is left out)" if name in active else "")


def _recipe(workspace: Workspace, plan: CompositionPlan, dtype: str | None) -> dict[str, Any]:
    """All that is needed to make the same file again."""
    return {
        "format": "shiftreg-recipe-1",
        "base": {"name": plan.base, "digest": plan.base_digest, "source": workspace.base.source},
        "composition": plan.digest,
        "shifts": [
            {"concept": concept, "version": version, "digest": digest}
            for concept, version, digest in plan.shifts
        ],
        "order": "ascending digest, summed in float64, cast once",
        "states": dict(plan.states),
        "dtype": dtype or "base",
        "tools": {
            "shiftreg": shiftreg.__version__,
            "python": platform.python_version(),
        }
        | {name: library_version(name) for name in ("torch", "diffusers", "safetensors")},
    }
