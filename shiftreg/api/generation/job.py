"""What is to be generated: a file of prompts, compositions, and settings."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import shiftreg
from shiftreg import pipelines
from shiftreg.api.composition.compose import plan_composition
from shiftreg.api.generation.folder import (
    FORMAT,
    LIBRARIES,
    MANIFEST,
    PlannedImage,
    images_of,
    is_whole,
)
from shiftreg.api.selection import ACTIVE, NONE, Selection
from shiftreg.api.values import CompositionPlan
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.prompt_file import PromptCase, parse_prompts, read_content
from shiftreg.pipelines import Pipeline

SHOWN = 10  # numbers of skipped cases that a warning spells out


@dataclass(frozen=True)
class GenerationFolder:
    """The images of one composition.

    Attributes:
        name: Of the subfolder: "base", "active", "without-picasso".
        composition: In words: "none" (the base), "active", "without Picasso".
        plan: Which shifts apply, and what that means for every concept.
        new: Images to generate; afterwards, those that were generated.
        kept: Images that were there and whole.
    """

    name: str
    composition: str
    plan: CompositionPlan
    new: int
    kept: int


@dataclass(frozen=True)
class GenerationPlan:
    """What a generation does.

    Attributes:
        prompts: The file of prompts.
        prompts_digest: Of the file's bytes.
        folder: Where the images go.
        cases: Lines of the file, without the skipped ones.
        count: Images a case.
        by_prompt: Whether each prompt has a subfolder.
        folders: One a composition.
        skipped: Numbers of the cases whose prompts are too long.
    """

    base: str
    base_digest: str
    prompts: Path
    prompts_digest: str
    folder: Path
    cases: int
    count: int
    steps: int
    guidance: float
    by_prompt: bool
    folders: tuple[GenerationFolder, ...]
    warnings: tuple[str, ...]
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True)
class GenerationSettings:
    """What is generated of a file of prompts, and how.

    Attributes:
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
    """

    compositions: Sequence[Selection] = (ACTIVE,)
    with_base: bool = True
    count: int = 1
    steps: int | None = None
    guidance: float | None = None
    batch_size: int = 25
    by_prompt: bool = False
    skip_long: bool = False
    overwrite: bool = False


USUAL = GenerationSettings()


@dataclass(frozen=True)
class GenerationJob:
    """Everything that the images depend on, read and checked; nothing is written yet."""

    workspace: Workspace
    source: Path
    content: bytes
    cases: tuple[PromptCase, ...]
    compositions: Mapping[Selection, CompositionPlan]
    settings: GenerationSettings
    steps: int
    guidance: float
    skipped: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the file of prompts."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def images(self) -> list[PlannedImage]:
        """What every composition generates, case by case."""
        return images_of(self.cases, self.settings.count, self.settings.by_prompt)

    def missing(self, folder: Path) -> dict[str, list[bool]]:
        """For each composition's folder, which images are not there, or damaged."""
        size = pipelines.image_size(self.workspace.pipeline)
        return {
            one.folder: [not is_whole(folder / one.folder / p.file, size) for p in self.images]
            for one in self.compositions
        }

    def manifest(self) -> dict[str, Any]:
        """What ``generate.json`` says."""
        base = self.workspace.base
        tools = {"shiftreg": shiftreg.__version__, "python": platform.python_version()}
        tools |= {name: library_version(name) for name in LIBRARIES}
        return {
            "format": FORMAT,
            "base": {"name": base.name, "digest": base.digest},
            "prompts": {
                "file": self.source.name,
                "digest": self.digest,
                "cases": len(self.cases),
                "skipped": list(self.skipped),
            },
            "steps": self.steps,
            "guidance": self.guidance,
            "count": self.settings.count,
            "by_prompt": self.settings.by_prompt,
            "noise": "of a case, one draw (count, C, h, w) from a CPU generator with its seed",
            "folders": {
                one.folder: {
                    "composition": one.label,
                    "digest": plan.digest,
                    "shifts": [
                        {"concept": concept, "version": version, "digest": digest}
                        for concept, version, digest in plan.shifts
                    ],
                    "states": dict(plan.states),
                    "batch": self.settings.batch_size,
                    "tools": tools,
                }
                for one, plan in self.compositions.items()
            },
        }

    def plan(
        self, folder: Path, missing: Mapping[str, Sequence[bool]], warnings: Sequence[str]
    ) -> GenerationPlan:
        """The job, described."""
        base = self.workspace.base
        # Of the base, restored concepts and stale shifts are no news.
        composed = [plan.warnings for one, plan in self.compositions.items() if one != NONE]
        skipped_note = [self._skipped_note()] * bool(self.skipped)
        return GenerationPlan(
            base=base.name,
            base_digest=base.digest,
            prompts=self.source,
            prompts_digest=self.digest,
            folder=folder,
            cases=len(self.cases),
            count=self.settings.count,
            steps=self.steps,
            guidance=self.guidance,
            by_prompt=self.settings.by_prompt,
            folders=tuple(
                GenerationFolder(
                    name=one.folder,
                    composition=one.label,
                    plan=plan,
                    new=sum(missing[one.folder]),
                    kept=len(missing[one.folder]) - sum(missing[one.folder]),
                )
                for one, plan in self.compositions.items()
            ),
            warnings=tuple(
                dict.fromkeys((*skipped_note, *warnings, *(w for some in composed for w in some)))
            ),
            skipped=self.skipped,
        )

    def _skipped_note(self) -> str:
        shown = ", ".join(map(str, self.skipped[:SHOWN]))
        more = len(self.skipped) - SHOWN
        rest = f" and {more} more (all in {MANIFEST} and --json)" if more > 0 else ""
        total = len(self.skipped) + len(self.cases)
        limit = pipelines.token_limit(self.workspace.pipeline)
        return (
            f"{len(self.skipped)} of {total} cases are skipped, whose prompts have more than "
            f"{limit} tokens: {shown}{rest}."
        )


def read_job(workspace: Workspace, prompts: Path, settings: GenerationSettings) -> GenerationJob:
    """Reads and checks all that a generation needs, before a long piece of work begins.

    Raises:
        InvalidInputError: A setting or a line of the file is wrong.
        NotFoundError: No such file or concept.
    """
    base = workspace.base
    content = read_content(prompts)
    cases, too_long = _readable(workspace, parse_prompts(content, prompts))
    if too_long and not (settings.skip_long and cases):
        raise InvalidInputError(_refusal(workspace, prompts, too_long, settings.skip_long))
    wanted = (*[NONE] * settings.with_base, *settings.compositions)
    selections = [one.normalised(workspace.find) for one in wanted]
    job = GenerationJob(
        workspace=workspace,
        source=prompts,
        content=content,
        cases=cases,
        compositions={one: plan_composition(workspace, one) for one in dict.fromkeys(selections)},
        settings=settings,
        steps=base.steps if settings.steps is None else settings.steps,
        guidance=float(base.guidance if settings.guidance is None else settings.guidance),
        skipped=tuple(case.case for case in too_long),
    )
    _check(job)
    return job


def _readable(
    workspace: Workspace, cases: Sequence[PromptCase]
) -> tuple[tuple[PromptCase, ...], tuple[PromptCase, ...]]:
    """The cases whose prompts the encoder reads to their end, and the others."""
    fits = pipelines.fitting(workspace.pipeline, [case.prompt for case in cases])
    pairs = list(zip(cases, fits, strict=True))
    return tuple(c for c, fit in pairs if fit), tuple(c for c, fit in pairs if not fit)


def _refusal(
    workspace: Workspace, source: Path, too_long: Sequence[PromptCase], skip_long: bool
) -> str:
    limit, first = pipelines.token_limit(workspace.pipeline), too_long[0]
    others = f", and {len(too_long) - 1} more" if len(too_long) > 1 else ""
    remedy = (
        "No case would be left: shorten them."
        if skip_long
        else ("Shorten them, or skip them with --skip-long.")
    )
    return (
        f"A prompt has at most {limit} tokens here. Longer in '{source}': case {first.case} "
        f"('{first.prompt[:60]}'){others}. {remedy}"
    )


def _check(job: GenerationJob) -> None:
    if not job.compositions:
        raise InvalidInputError(
            "Nothing is to be generated: give a composition, or generate the base."
        )
    count, batch = job.settings.count, job.settings.batch_size
    if count < 1:
        raise InvalidInputError(f"A case has at least 1 image, and {count} were asked for.")
    if batch < 1:
        raise InvalidInputError(f"A batch has at least 1 image, and {batch} were asked for.")
    check_sampling(job.workspace.pipeline, job.steps, job.guidance)


def check_sampling(pipeline: Pipeline, steps: int, guidance: float) -> None:
    """Refuses settings that a base cannot denoise with.

    Raises:
        InvalidInputError: Too few or too many steps, or a guidance scale below 0.
    """
    limit = pipeline.scheduler.config.num_train_timesteps
    if not 1 <= steps <= limit:
        raise InvalidInputError(
            f"This base denoises in 1 to {limit} steps, and {steps} were asked for."
        )
    if not (math.isfinite(guidance) and guidance >= 0):
        raise InvalidInputError(f"A guidance scale is a number from 0 on, not {guidance}.")
