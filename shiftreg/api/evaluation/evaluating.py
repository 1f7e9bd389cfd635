"""Evaluating a scene, or the composition at hand: did it work, and what does it cost?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shiftreg import miniature
from shiftreg.api.changes import change, report_with_image
from shiftreg.api.composition.compose import plan_composition
from shiftreg.api.evaluation.classifiers import require_classifier
from shiftreg.api.evaluation.examining import Subject, examine
from shiftreg.api.evaluation.gallery import Gallery, shots
from shiftreg.api.evaluation.playing import PlayedStep, Stage, images_folder
from shiftreg.api.front_end import to_json
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.concepts import slug
from shiftreg.engines import Engine
from shiftreg.erasers import ClosedForm
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.results import Evaluation, StepResult, check_goals
from shiftreg.evaluation.scenes import Scene, SceneStep
from shiftreg.reports import GridRow, image_grid, save_image

Paraphrases = Literal["last", "all", "none"]
IMAGES = 10
UNNAMED = "active composition"
SHOWN = 2  # images of each cell in the grid


def evaluate(
    workspace: Workspace,
    scene: Scene | None = None,
    *,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    images: int | None = None,
    seed: int = 0,
    paraphrases: Paraphrases = "last",
    classifier: Path | None = None,
    selection: Selection = ACTIVE,
    engine: Engine | None = None,
    observe: Observer = ignore_progress,
) -> Evaluation:
    """Measures erasing and restoring: names, paraphrases, neighbours, ordinary prompts.

    A scene is played in a registry of its own: nothing of the workspace is erased or restored. An
    interrupted evaluation goes on where it was.

    Args:
        workspace: Where.
        scene: Steps to play; without, or without steps, the composition at hand is measured.
        method: Name of the eraser; the scene's by default.
        options: Its hyper-parameters.
        images: Images a cell; the scene's by default.
        seed: Of erasers and images.
        paraphrases: After which steps paraphrases are looked at.
        classifier: File of a classifier; see ``classifiers.find_classifier``.
        selection: The composition to measure; not with a scene that has steps.
        engine: Where it is erased and generated: see :func:`choose_engine`; here by default.
        observe: Told of the progress.

    Raises:
        NotFoundError: No classifier, or it knows none of the concepts.
        InvalidInputError: Fewer than two images, or a choice of concepts for a scene with steps.
    """
    reader = require_classifier(workspace, classifier)
    count = images or (scene.images if scene else None) or IMAGES
    if count < 2:
        raise InvalidInputError(f"A distance of sets takes at least 2 images, not {count}.")
    plays = scene is not None and bool(scene.steps)
    if plays and selection != ACTIVE:
        raise InvalidInputError("A scene says what is erased: leave --only and --without out.")
    scene = scene or Scene(UNNAMED, workspace.known_names(), ())
    concepts = tuple(name for name in scene.concepts if reader.knows(name))
    if not concepts:
        raise NotFoundError(
            f"{reader.name} knows none of {', '.join(scene.concepts) or 'the concepts'}: it tells "
            f"{', '.join(reader.labels)} apart. Run: shiftreg classifier train"
        )
    method = method or scene.method or ClosedForm.name
    if plays:
        options = dict(options or scene.options)
        stage = Stage(workspace, scene, method, options, seed, engine)
        played, place = stage.play(observe), stage.workspace
    else:
        played, place = _at_hand(workspace, selection), workspace
        method = "as registered"
    packaged = miniature.prompts() if workspace.base.source == miniature.NAME else {}
    subject = Subject(
        workspace=place,
        gallery=Gallery(place, images_folder(workspace), engine),
        classifier=reader,
        concepts=concepts,
        kind=scene.kind,
        images=count,
        seed=seed,
        aliases=packaged.get("aliases", {}) | scene.aliases,
        spellings=packaged.get("spellings", {}) | scene.spellings,
        neighbours=scene.neighbours,
    )
    last = max(1, len(scene.steps))
    steps = tuple(
        examine(
            subject,
            done.plan,
            number=number,
            label=done.step.label,
            action=done.step.action,
            erased_before=done.erased_before,
            paraphrases=paraphrases == "all" or (paraphrases == "last" and number == last),
            observe=observe,
        )
        for number, done in enumerate(played, start=1)
    )
    goals = check_goals(steps, scene.goals)
    evaluation = Evaluation(
        name=scene.name,
        base=workspace.base.name,
        method=method,
        images=count,
        seed=seed,
        classifier=reader.name,
        steps=steps,
        goals=goals,
        passed=all(goal.passed for goal in goals),
        reference=scene.reference,
        image=None,
        report_path=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _keep(workspace, subject, evaluation, reader.digest)


def _at_hand(workspace: Workspace, selection: Selection) -> Iterator[PlayedStep]:
    """The composition of the registry, as the one step of a scene."""
    plan = plan_composition(workspace, selection)
    erased = [name for name, state in plan.states.items() if state == "erased"]
    before = frozenset(workspace.registry.shifts.concepts(workspace.base.name))
    yield PlayedStep(SceneStep(erase=tuple(erased)), plan, before)


def _keep(
    workspace: Workspace, subject: Subject, evaluation: Evaluation, classifier_digest: str
) -> Evaluation:
    """Writes the grid and the report, and registers both; all of it, or nothing."""
    last = evaluation.steps[-1]
    folder = workspace.settings.home / "evaluations"
    with report_with_image(folder, slug(evaluation.name)) as (path, image):
        evaluation = replace(evaluation, image=image, report_path=path)
        with atomic_file(image) as partial:
            columns = ("base", *(step.label or f"step {step.number}" for step in evaluation.steps))
            save_image(image_grid(_grid(subject, evaluation.steps), columns, tile=96), partial)
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(to_json(evaluation), indent=2), encoding="utf-8")
        with change(
            workspace,
            "evaluate",
            base=evaluation.base,
            concepts=tuple(name for name, state in last.states.items() if state == "erased"),
            digests={
                "base": workspace.base.digest,
                "composition": last.digest,
                "classifier": classifier_digest,
                "report": file_digest(path),
            },
            recovery={"kind": "evaluation"},
            details={
                "name": evaluation.name,
                "passed": evaluation.passed,
                "method": evaluation.method,
            },
        ):
            workspace.registry.measurements.record(
                evaluation.base,
                "evaluation",
                last.digest,
                path,
                metrics={goal.name: goal.value for goal in evaluation.goals},
                passed=evaluation.passed,
                files=[image],
            )
    return evaluation


def _grid(subject: Subject, steps: Sequence[StepResult]) -> list[GridRow]:
    """A row a concept: a few images of its name by the base, then after each step."""
    rows = []
    digests = ("", *(step.digest for step in steps))
    for name in subject.concepts:
        wanted = shots([name] * SHOWN, subject.seed)
        cells = [subject.gallery.kept(wanted, digest) for digest in digests]
        rows.append(GridRow(name, np.stack([cell[shot] for cell in cells for shot in wanted])))
    return rows
