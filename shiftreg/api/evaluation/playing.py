"""Playing a scene: its erasures and restorations, in a registry of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shiftreg import __version__
from shiftreg.api.composition.compose import plan_composition
from shiftreg.api.erasure.erasing import erase, refresh
from shiftreg.api.opening import open_workspace
from shiftreg.api.states import restore
from shiftreg.api.values import CompositionPlan, Observer
from shiftreg.api.workspace import Workspace
from shiftreg.canonical import canonical_digest
from shiftreg.checkpoints import atomic_file
from shiftreg.concepts import slug
from shiftreg.engines import Engine
from shiftreg.errors import IntegrityError
from shiftreg.evaluation.scenes import Scene, SceneStep

Versions = Mapping[str, int]


@dataclass(frozen=True)
class PlayedStep:
    """A step, and what is composed after it.

    Attributes:
        step: The step.
        plan: The composition.
        erased_before: All concepts that were erased at some time.
    """

    step: SceneStep
    plan: CompositionPlan
    erased_before: frozenset[str]


class Stage:
    """A scene's own registry, beside that of the workspace, and how far the scene is played.

    Attributes:
        workspace: What the scene is played in.
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
        """Opens the place of a scene; the same scene with the same settings finds the same place.

        Args:
            owner: Its base is used, and its home holds the place.
            scene: The scene.
            method: Of the eraser.
            options: Of the eraser.
            seed: Of the eraser.
            engine: Where shifts are found.
        """
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

        Older shifts are made to protect what is erased after them, as a user would do.

        Args:
            observe: Told of the progress.
        """
        played = self._read()
        erased_before: set[str] = set()
        for number, step in enumerate(self._scene.steps):
            if number < len(played):
                self._put_on(played[number])
            else:
                self._put_on(played[-1] if played else {})
                self._take(step, erased_before, observe)
                played.append(self._active())
                self._write(played)
            erased_before |= set(step.erase)
            plan = plan_composition(self.workspace)
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
                observe=observe,
            )
            refresh(self.workspace, reason=self._scene.name, engine=self._engine, observe=observe)

    def _put_on(self, versions: Versions) -> None:
        """Makes exactly these versions active."""
        registry, base = self.workspace.registry, self.workspace.base.name
        active = self._active()
        for name in active.keys() - versions.keys():
            registry.shifts.deactivate(base, name)
        for name, version in versions.items():
            if active.get(name) != version:
                registry.shifts.activate(base, name, version)

    def _active(self) -> dict[str, int]:
        base = self.workspace.base.name
        return {v.concept: v.version for v in self.workspace.registry.shifts.active(base)}

    def _read(self) -> list[dict[str, int]]:
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

    def _write(self, played: list[dict[str, int]]) -> None:
        with atomic_file(self._played, overwrite=True) as partial:
            partial.write_text(json.dumps(played, indent=2), encoding="utf-8")


def images_folder(owner: Workspace) -> Path:
    """Where images of all evaluations of a workspace are kept."""
    return owner.settings.home / "evaluations" / "images"
