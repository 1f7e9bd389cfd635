"""Generates files of prompts: the base and compositions in one pass, from the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftreg.api.composition.compose import plan_shifts
from shiftreg.api.generation.batches import Batch, Draw, generate_batches
from shiftreg.api.generation.folder import (
    PlannedImage,
    check_folder,
    locked_folder,
    save_image_file,
    save_metadata,
)
from shiftreg.api.generation.job import (
    USUAL,
    GenerationJob,
    GenerationPlan,
    GenerationSettings,
    read_job,
)
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.engines import Engine, InProcess
from shiftreg.errors import StorageError


@dataclass(frozen=True)
class GenerationResult:
    """Images that are there, all of them.

    Attributes:
        generated: Images that were generated, of all folders.
        kept: Images that were there already.
    """

    plan: GenerationPlan
    generated: int
    kept: int


def plan_generation(
    workspace: Workspace, cases_file: Path, folder: Path, settings: GenerationSettings = USUAL
) -> GenerationPlan:
    """Says what :func:`generate_images` would do with the same arguments; nothing is written."""
    job = read_job(workspace, cases_file, settings)
    warnings = check_folder(folder, job.manifest(), settings.overwrite)
    missing = job.missing(folder)
    if settings.overwrite:
        missing = {name: [True] * len(of_folder) for name, of_folder in missing.items()}
    return job.plan(folder, missing, warnings)


def generate_images(
    workspace: Workspace,
    cases_file: Path,
    folder: Path,
    settings: GenerationSettings = USUAL,
    *,
    engine: Engine | None = None,
    observe: Observer = ignore_progress,
) -> GenerationResult:
    """Generates a file of prompts with the base and with compositions, each case from one noise.

    The images of a composition are ``folder/{composition}/{case}_{i}.png``. Interrupted, the
    same call continues where it stopped: images that are there and whole are kept, and new ones
    are the same to the byte as without the interruption.

    Args:
        cases_file: A CSV file; see ``evaluation.prompt_file.parse_prompts``.
        folder: A new folder, or one that holds images of the same job. Compositions may be added
            to a job later.
        engine: Where batches are generated: see :func:`choose_engine`; by default here, in turn.
        observe: Notified of the progress, in images.

    Raises:
        NotFoundError: No such file or concept.
        InvalidInputError: A setting or a line of the file is wrong.
        AlreadyExistsError: The folder holds another job, or files of other origin.
        IntegrityError: What is noted about the folder is damaged.
        StorageError: The disk is full or read-only, or another process generates there.
    """
    job = read_job(workspace, cases_file, settings)
    with locked_folder(folder, job.manifest(), job.content, settings.overwrite) as warnings:
        missing = job.missing(folder)
        plan = job.plan(folder, missing, warnings)
        try:
            _generate(job, folder, missing, engine or InProcess(), observe)
        except StorageError as error:
            raise StorageError(
                f"{error} The images so far are kept: the same command continues from there."
            ) from error
    new, kept = (sum(getattr(one, key) for one in plan.folders) for key in ("new", "kept"))
    return GenerationResult(plan, new, kept)


def _generate(
    job: GenerationJob,
    folder: Path,
    missing: Mapping[str, Sequence[bool]],
    engine: Engine,
    observe: Observer,
) -> None:
    compositions = {
        selection.folder: plan_shifts(job.workspace, plan)
        for selection, plan in job.compositions.items()
    }
    size = job.settings.batch_size
    total = len(job.images) * len(compositions)
    done = total - sum(map(sum, missing.values()))
    observe(Progress("generating images", done, total))
    # Composition by composition within a batch, so that all are equally far if this is interrupted.
    # The whole batch, whatever is missing of it: its size decides how sums are rounded.
    parts = [
        (name, slice(start, start + size))
        for start in range(0, len(job.images), size)
        for name in compositions
        if any(missing[name][start : start + size])
    ]

    def keep(number: int, generated: np.ndarray) -> None:
        nonlocal done
        name, batch = parts[number]
        absent = missing[name][batch]
        for image, pixels, is_new in zip(job.images[batch], generated, absent, strict=True):
            if is_new:
                save_image_file(pixels, folder / name / image.file)
        done += sum(absent)
        observe(Progress("generating images", done, total))

    batches = [_batch(job, compositions[name], job.images[batch]) for name, batch in parts]
    generate_batches(job.workspace, batches, engine, keep)
    for name in compositions:
        save_metadata(folder / name, job.images)


def _batch(job: GenerationJob, composition: Composition, images: Sequence[PlannedImage]) -> Batch:
    return Batch(
        record=job.workspace.base,
        composition=composition,
        prompts=tuple(image.case.prompt for image in images),
        seeds=tuple(image.case.seed for image in images),
        steps=job.steps,
        guidance=job.guidance,
        draws=tuple(Draw(p.case.seed, job.settings.count, p.number) for p in images),
    )
