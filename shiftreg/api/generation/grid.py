"""Images of what a shift or a composition does: the same seeds with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shiftreg import pipelines
from shiftreg.api.composition.compose import plan_composition, plan_shifts
from shiftreg.api.generation.job import check_sampling
from shiftreg.api.loaded_base import LoadedBase
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import CompositionPlan, GridResult, Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.compose import Composition, merged_weights
from shiftreg.concepts import fill
from shiftreg.errors import InvalidInputError
from shiftreg.reports import GridRow, image_grid, save_image
from shiftreg.shift import ConceptShift

SAMPLE_SEEDS = (0, 1, 2, 3)


def generate_grid(
    workspace: Workspace,
    prompts: Sequence[str],
    path: Path,
    *,
    selection: Selection = ACTIVE,
    seeds: Sequence[int] = SAMPLE_SEEDS,
    steps: int | None = None,
    guidance: float | None = None,
    overwrite: bool = False,
    observe: Observer = ignore_progress,
) -> GridResult:
    """Generates prompts with the base and with a composition, same seeds, into one PNG.

    Args:
        prompts: A row each.
        seeds: A column each, for the base and again for the composition.
        steps: Denoising steps; the base's default if None.
        guidance: Guidance scale; the base's default if None.

    Raises:
        InvalidInputError: No prompt or seed, a prompt that is too long, or settings that the
            base cannot denoise with.
        AlreadyExistsError: The file exists.
    """
    if not prompts or not seeds:
        raise InvalidInputError("Images need at least one prompt and one seed.")
    base = workspace.base
    steps = base.steps if steps is None else steps
    guidance = base.guidance if guidance is None else guidance
    check_sampling(workspace.pipeline, steps, guidance)
    plan = plan_composition(workspace, selection)
    composition = plan_shifts(workspace, plan)
    with atomic_file(path, overwrite=overwrite) as partial:
        rows = _rows(workspace, prompts, seeds, composition, steps, guidance, observe)
        save_image(image_grid(rows, ("base", _label(plan))), partial)
    return GridResult(plan, path, tuple(prompts), tuple(seeds))


def generate_samples(
    workspace: Workspace,
    name: str,
    *,
    seeds: Sequence[int] = SAMPLE_SEEDS,
    observe: Observer = ignore_progress,
) -> Path:
    """Shows what a concept's shift does: the same prompts and seeds without and with it.

    The image is kept with the version, and the audit trail has its digest.

    Args:
        name: Of a concept, whose active or else newest version is shown; or "NAME@VERSION".
        seeds: One an image of each prompt.

    Returns:
        A PNG in the home's ``samples`` folder.

    Raises:
        NotFoundError: No such concept or version.
    """
    spelled, _at, reference = name.partition("@")
    concept = workspace.find(spelled)
    version = workspace.registry.shifts.version(workspace.base.name, concept, reference)
    shift = workspace.shift(version)
    rows = _sample_rows(workspace, shift, seeds, observe)
    folder = workspace.settings.home / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shift.digest[:16]}.png"
    with atomic_file(path, overwrite=True) as partial:
        save_image(image_grid(rows, ("before", "after")), partial)
    workspace.registry.shifts.keep_samples(version, path)
    workspace.audit.append(
        "samples",
        base=workspace.base.name,
        concepts=[concept],
        digests={"shift": shift.digest, "samples": file_digest(path)},
        details={"version": version.version},
    )
    return path


def _sample_rows(
    place: LoadedBase, shift: ConceptShift, seeds: Sequence[int], observe: Observer
) -> list[GridRow]:
    """Generates a concept with and without one shift: a row a prompt, the same seeds in both."""
    base = place.base
    subject, another = (*base.subjects, *base.subjects)[:2]
    prompts = [shift.concept, fill("a painting of a {subject}", another)]
    if shift.kind == "style":
        template = "a painting of a {subject} by {concept}"
        prompts.insert(1, fill(template, subject, shift.concept))
    fits = pipelines.fitting(place.pipeline, prompts)
    prompts = [prompt for prompt, fit in zip(prompts, fits, strict=True) if fit]
    composition = Composition.of(base.digest, [shift])
    return _rows(place, prompts, seeds, composition, base.steps, base.guidance, observe)


def _rows(
    base: LoadedBase,
    prompts: Sequence[str],
    seeds: Sequence[int],
    composition: Composition,
    steps: int,
    guidance: float,
    observe: Observer,
) -> list[GridRow]:
    texts = [prompt for prompt in prompts for _ in seeds]
    numbers = [seed for _ in prompts for seed in seeds]
    total = 2 * len(texts)

    def generate(done_before: int) -> np.ndarray:
        return pipelines.generate(
            base.pipeline,
            texts,
            numbers,
            steps=steps,
            guidance=guidance,
            observe=lambda done: observe(Progress("generating samples", done_before + done, total)),
        )

    before = generate(0)
    weights = merged_weights(pipelines.parameters(base.network), composition)
    with pipelines.applied_weights(base.network, weights):
        after = generate(len(texts))
    return [
        GridRow(prompt, np.concatenate([before[i : i + len(seeds)], after[i : i + len(seeds)]]))
        for prompt, i in zip(prompts, range(0, len(texts), len(seeds)), strict=True)
    ]


def _label(plan: CompositionPlan) -> str:
    erased = [concept for concept, state in plan.states.items() if state == "erased"]
    if not erased:
        return "nothing erased"
    # A column is as wide as its images: many names would be cut off.
    return f"erased: {', '.join(erased)}" if len(erased) <= 2 else f"{len(erased)} concepts erased"
