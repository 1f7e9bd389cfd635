"""Evaluates a scene or a composition: did the erasures work, and what do they cost?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shiftreg import __version__, miniature
from shiftreg.api.changes import change, kept_report
from shiftreg.api.composition.compose import compose_registered, plan_composition
from shiftreg.api.erasure.erase import erase, refresh
from shiftreg.api.evaluation.classifiers import require_classifier
from shiftreg.api.evaluation.gallery import Gallery, shots
from shiftreg.api.evaluation.step import PlayedStep, Subject, measure_step
from shiftreg.api.opening import open_workspace
from shiftreg.api.selection import ACTIVE, Selection
from shiftreg.api.states import restore
from shiftreg.api.values import Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.canonical import canonical_digest
from shiftreg.checkpoints import atomic_file, file_digest
from shiftreg.concepts import slug
from shiftreg.engines import Engine
from shiftreg.erasers import ClosedForm
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.results import Evaluation, StepResult, check_goals
from shiftreg.evaluation.scenes import Scene, SceneStep
from shiftreg.reports import GridRow, image_grid

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
    interrupted evaluation continues where it stopped.

    Args:
        scene: Steps to play; without, or without steps, the composition itself is measured.
        method: Name of the eraser; the scene's by default.
        images: Images a cell; the scene's by default.
        seed: Of erasers and images.
        paraphrases: After which steps paraphrases are measured.
        classifier: File of a classifier; see ``classifiers.find_classifier``.
        selection: The composition to measure; not with a scene that has steps.
        engine: Where it is erased and generated: see :func:`choose_engine`; here by default.

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
    if plays:
        method = method or scene.method or ClosedForm.name
        run = SceneRun(workspace, scene, method, dict(options or scene.options), seed, engine)
        played, source = run.play(observe), run.workspace
    else:
        method, played, source = "as registered", _registered(workspace, selection), workspace
    packaged = miniature.prompts() if workspace.base.source == miniature.NAME else {}
    folder = workspace.settings.home / "evaluations"
    subject = Subject(
        workspace=source,
        gallery=Gallery(source, folder / "images", engine),
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
        measure_step(
            subject,
            number,
            step,
            paraphrases=paraphrases == "all" or (paraphrases == "last" and number == last),
            observe=observe,
        )
        for number, step in enumerate(played, start=1)
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
    columns = ("base", *(step.label or f"step {step.number}" for step in steps))
    grid = image_grid(_grid(subject, steps), columns, tile=96)
    with kept_report(folder, slug(evaluation.name), evaluation, grid) as evaluation:
        _register(workspace, evaluation, reader)
    return evaluation


def _registered(workspace: Workspace, selection: Selection) -> Iterator[PlayedStep]:
    """The composition of the registry, as the one step of a scene."""
    plan = plan_composition(workspace, selection)
    erased = [name for name, state in plan.states.items() if state == "erased"]
    before = frozenset(workspace.registry.shifts.concepts(workspace.base.name))
    yield PlayedStep(SceneStep(erase=tuple(erased)), plan, before)


def _grid(subject: Subject, steps: Sequence[StepResult]) -> list[GridRow]:
    """A row a concept: a few images of its name by the base, then after each step."""
    rows = []
    digests = ("", *(step.digest for step in steps))
    for name in subject.concepts:
        wanted = shots([name] * SHOWN, subject.seed)
        cells = [subject.gallery.kept(wanted, digest) for digest in digests]
        rows.append(GridRow(name, np.stack([cell[shot] for cell in cells for shot in wanted])))
    return rows


def _register(workspace: Workspace, evaluation: Evaluation, classifier: Classifier) -> None:
    last = evaluation.steps[-1]
    assert evaluation.report_path is not None
    assert evaluation.image is not None
    with change(
        workspace,
        "evaluate",
        base=evaluation.base,
        concepts=tuple(name for name, state in last.states.items() if state == "erased"),
        digests={
            "base": workspace.base.digest,
            "composition": last.digest,
            "classifier": classifier.digest,
            "report": file_digest(evaluation.report_path),
        },
        recovery={"kind": "evaluation"},
        details={"name": evaluation.name, "passed": evaluation.passed, "method": evaluation.method},
    ):
        workspace.registry.measurements.record(
            evaluation.base,
            "evaluation",
            last.digest,
            evaluation.report_path,
            metrics={goal.name: goal.value for goal in evaluation.goals},
            passed=evaluation.passed,
            files=[evaluation.image],
        )


class SceneRun:
    """A scene that is played in a registry of its own, beside that of the workspace.

    The same scene with the same settings finds the same registry, and continues there.
    """

    def __init__(
        self,
        owner: Workspace,
        scene: Scene,
        method: str,
        options: Mapping[str, Any],
        seed: int,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine
        self._scene, self._method, self._options, self._seed = scene, method, options, seed
        steps = [asdict(step) for step in scene.steps]
        job = [__version__, owner.base.to_json(), scene.kind, steps, method, dict(options), seed]
        key = canonical_digest(job)[:12]
        home = owner.settings.home / "evaluations" / f"{slug(scene.name)}-{method}-{key}"
        home.mkdir(parents=True, exist_ok=True)
        self._played = home / "played.json"
        self.workspace = open_workspace(replace(owner.settings, home=home, tracking_uri=None))
        self.workspace.registry.bases.save(owner.base)
        # Loaded and checked once for both.
        self.workspace.__dict__ |= {"folder": owner.folder, "pipeline": owner.pipeline}

    def play(self, observe: Observer) -> Iterator[PlayedStep]:
        """Plays the steps; those that were played before are not trained again.

        Older shifts are refreshed to protect what is erased after them, as a user would do.
        """
        played = self._read()
        erased_before: set[str] = set()
        for number, step in enumerate(self._scene.steps):
            if number < len(played):
                self._activate(played[number])
            else:
                self._activate(played[-1] if played else {})
                self._take(step, erased_before, observe)
                played.append(self._active())
                with atomic_file(self._played, overwrite=True) as partial:
                    partial.write_text(json.dumps(played, indent=2), encoding="utf-8")
            erased_before |= set(step.erase)
            # What is played again is made active without an event.
            plan = compose_registered(self.workspace)
            yield PlayedStep(step, plan, frozenset(erased_before))

    def _take(self, step: SceneStep, erased_before: set[str], observe: Observer) -> None:
        if step.restore:
            restore(self.workspace, step.restore, reason=f"{self._scene.name}: {step.action}")
        if step.erase:
            # What was erased before comes back as it was.
            names = [f"{n}@latest" if n in erased_before else n for n in step.erase]
            erase(
                self.workspace,
                names,
                kind=self._scene.kind,
                method=self._method,
                options=self._options,
                seed=self._seed,
                reason=f"{self._scene.name}: {step.action}",
                engine=self._engine,
                force=True,  # what a method leaves is measured here
                observe=observe,
            )
            refresh(
                self.workspace,
                reason=self._scene.name,
                engine=self._engine,
                force=True,
                observe=observe,
            )

    def _activate(self, versions: Mapping[str, int]) -> None:
        """Makes exactly these versions active: concept -> version."""
        shifts, base = self.workspace.registry.shifts, self.workspace.base.name
        active = self._active()
        for name in active.keys() - versions.keys():
            shifts.deactivate(base, name)
        for name, version in versions.items():
            if active.get(name) != version:
                shifts.activate(base, name, version)

    def _active(self) -> dict[str, int]:
        base = self.workspace.base.name
        return {v.concept: v.version for v in self.workspace.registry.shifts.active(base)}

    def _read(self) -> list[dict[str, int]]:
        """The versions that were active after each step that was played."""
        if not self._played.is_file():
            return []
        try:
            played: list[dict[str, int]] = json.loads(self._played.read_text(encoding="utf-8"))
        except ValueError as error:
            raise IntegrityError(
                f"'{self._played}' is damaged: {error}. Remove the folder it lies in, and evaluate "
                "again."
            ) from error
        return played
