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
from shiftreg.api.generation.job import GenerationJob, GenerationPlan, read_job
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import Observer, Progress, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.compose import Composition
from shiftreg.engines import Engine, InProcess
from shiftreg.errors import InvalidInputError, StorageError

BATCH = 25


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
    workspace: Workspace,
    cases_file: Path,
    folder: Path,
    *,
    compositions: Sequence[Selection] = (ACTIVE,),
    with_base: bool = True,
    count: int = 1,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int = BATCH,
    by_prompt: bool = False,
    skip_long: bool = False,
    overwrite: bool = False,
) -> GenerationPlan:
    """Says what :func:`generate_images` would do with the same arguments; nothing is written."""
    job = read_job(
        workspace,
        cases_file,
        compositions=compositions,
        with_base=with_base,
        count=count,
        steps=steps,
        guidance=guidance,
        by_prompt=by_prompt,
        skip_long=skip_long,
    )
    warnings = check_folder(folder, job.manifest(batch_size), overwrite)
    missing = job.missing(folder)
    if overwrite:
        missing = {name: [True] * len(of_folder) for name, of_folder in missing.items()}
    return job.plan(folder, missing, warnings)


def generate_images(
    workspace: Workspace,
    cases_file: Path,
    folder: Path,
    *,
    compositions: Sequence[Selection] = (ACTIVE,),
    with_base: bool = True,
    count: int = 1,
    steps: int | None = None,
    guidance: float | None = None,
    batch_size: int = BATCH,
    by_prompt: bool = False,
    skip_long: bool = False,
    overwrite: bool = False,
    engine: Engine | None = None,
    observe: Observer = ignore_progress,
) -> GenerationResult:
    """Generates a file of prompts with the base and with compositions, each case from one noise.

    The images of a composition are ``folder/{composition}/{case}_{i}.png``. Interrupted, the
    same call continues where it stopped: images that are there and whole are kept, and new ones
    are the same to the byte as without the interruption.

    Args:
        cases_file: A CSV file; see ``evaluation.prompt_file.read_prompts``.
        folder: A new folder, or one that holds images of the same job. Compositions may be added
            to a job later.
        compositions: Their selections of shifts; equal ones are generated once.
        with_base: Generate the base, too, to ``folder/base``.
        count: Images a case: slices of one draw of noise from the case's seed.
        steps: Denoising steps; the base's default if None.
        guidance: Guidance scale; the base's default if None.
        batch_size: Images that are generated together, by each composition in turn.
        by_prompt: Put the images of each prompt into a subfolder.
        skip_long: Leave cases out whose prompts are longer than the encoder reads; they are
            refused otherwise.
        overwrite: Regenerate all; what was generated to the folder before is removed.
        engine: Where batches are generated: see :func:`choose_engine`; by default here, in turn.
        observe: Notified of the progress, in images.

    Raises:
        NotFoundError: No such file or concept.
        InvalidInputError: A setting or a line of the file is wrong.
        AlreadyExistsError: The folder holds another job, or files of other origin.
        IntegrityError: What is noted about the folder is damaged.
        StorageError: The disk is full or read-only, or another process generates there.
    """
    if batch_size < 1:
        raise InvalidInputError(f"A batch has at least 1 image, and {batch_size} were asked for.")
    job = read_job(
        workspace,
        cases_file,
        compositions=compositions,
        with_base=with_base,
        count=count,
        steps=steps,
        guidance=guidance,
        by_prompt=by_prompt,
        skip_long=skip_long,
    )
    manifest = job.manifest(batch_size)
    warnings = check_folder(folder, manifest, overwrite)
    with locked_folder(folder, manifest, job.content, overwrite):
        missing = job.missing(folder)
        plan = job.plan(folder, missing, warnings)
        try:
            _generate(job, folder, missing, batch_size, engine or InProcess(), observe)
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
    batch_size: int,
    engine: Engine,
    observe: Observer,
) -> None:
    compositions = {
        selection.folder: plan_shifts(job.workspace, plan)
        for selection, plan in job.compositions.items()
    }
    total = len(job.images) * len(compositions)
    done = total - sum(map(sum, missing.values()))
    observe(Progress("generating images", done, total))
    # Composition by composition within a batch, so that all are equally far if this is interrupted.
    # The whole batch, whatever is missing of it: its size decides how sums are rounded.
    parts = [
        (name, slice(start, start + batch_size))
        for start in range(0, len(job.images), batch_size)
        for name in compositions
        if any(missing[name][start : start + batch_size])
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
        draws=tuple(Draw(p.case.seed, job.count, p.number) for p in images),
    )
