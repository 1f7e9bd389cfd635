"""Scenes: steps of erasing and restoring, as YAML, and what is expected of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shiftreg.concepts import Kind, normalised
from shiftreg.errors import InvalidInputError, NotFoundError

GOALS: Mapping[str, float] = {
    "forgotten accuracy": 0.02,
    "forgotten accuracy, held-out prompts": 0.05,
    "recovered LPIPS": 0.001,
    "recovered Fréchet distance": 0.05,
    "regular accuracy lost": 0.02,
    "regular LPIPS": 0.03,
    "ordinary LPIPS": 0.03,
    "watermark lost": 0.0,
}
"""The most that the worst cell may show."""

ORIGINAL = "original"
"""What a table of published numbers calls the model in which nothing is erased."""

_KEYS = {
    "name", "about", "concepts", "kind", "steps", "method", "options", "goals", "images",
    "aliases", "spellings", "neighbours", "reference",
}  # fmt: skip
_STEP_KEYS = {"erase", "restore", "label"}


@dataclass(frozen=True)
class SceneStep:
    """One step: what is erased, what is restored.

    Attributes:
        label: What a table calls it.
    """

    erase: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    label: str = ""

    @property
    def action(self) -> str:
        """What the step does: "erase A, B; restore C"."""
        parts = (("erase", self.erase), ("restore", self.restore))
        return "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)


@dataclass(frozen=True)
class Scene:
    """Steps, and how they are measured.

    Attributes:
        concepts: All that are measured; those that no step erases are the regular ones.
        kind: "style" or "object".
        steps: In their order.
        method: Of the eraser; None for the default.
        images: Images a cell; None for the default.
        goals: What the worst cell may show; see :data:`GOALS`.
        aliases: Concept -> synonyms to try.
        spellings: Concept -> spellings of other languages to try.
        neighbours: Names that may be near a concept, beside the known ones.
        reference: Step's label -> concept -> published "FID/ACC/LPIPS"; those of the model in which
            nothing is erased are under :data:`ORIGINAL`.
    """

    name: str
    concepts: tuple[str, ...]
    steps: tuple[SceneStep, ...]
    about: str = ""
    kind: Kind = "style"
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    goals: Mapping[str, float] = field(default_factory=lambda: dict(GOALS))
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    neighbours: tuple[str, ...] = ()
    reference: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the steps: nothing is restored that is not erased then."""
        erased: set[str] = set()
        for number, step in enumerate(self.steps, start=1):
            where = f"Scene '{self.name}', step {number}"
            if not step.erase and not step.restore:
                raise InvalidInputError(f"{where} does nothing. Give it erase: or restore:.")
            for name in (*step.erase, *step.restore):
                if name not in self.concepts:
                    raise InvalidInputError(
                        f"{where} names '{name}', which is not among its concepts: "
                        f"{', '.join(self.concepts)}. Add it there, or correct it."
                    )
            for name in step.erase:
                if name in erased:
                    raise InvalidInputError(f"{where} erases '{name}', which is erased already.")
            for name in step.restore:
                if name not in erased:
                    raise InvalidInputError(
                        f"{where} restores '{name}', which is not erased then. Erase it before."
                    )
            erased = (erased | set(step.erase)) - set(step.restore)


def read_scene(path: Path) -> Scene:
    """Reads a scene.

    Args:
        path: A YAML file; see ``examples/scenes``.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: It is not YAML, has unknown keys or values of another type, or restores
            what was never erased.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no scene '{path}'. Check the path; see examples/scenes.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"'{path}' is not YAML in UTF-8: {error}.") from error
    values = _mapping(loaded, f"'{path}'", _KEYS)
    for key in ("name", "concepts"):
        if not values.get(key):
            raise InvalidInputError(f"'{path}' needs '{key}'.")
    steps = tuple(
        _step(entry, f"'{path}', step {number}")
        for number, entry in enumerate(_list(values.get("steps", []), f"'{path}', steps"), start=1)
    )
    concepts = _names(values["concepts"], f"'{path}', concepts")
    return Scene(
        name=str(values["name"]),
        concepts=concepts,
        steps=steps,
        about=str(values.get("about", "")),
        kind=_choice(values.get("kind", "style"), path),
        method=values.get("method"),
        options=_mapping(values.get("options", {}), f"'{path}', options"),
        images=_count(values.get("images"), path),
        goals=dict(GOALS) | _goals(values.get("goals", {}), path),
        aliases=_lists(values.get("aliases", {}), f"'{path}', aliases"),
        spellings=_lists(values.get("spellings", {}), f"'{path}', spellings"),
        neighbours=_names(values.get("neighbours", []), f"'{path}', neighbours"),
        reference=_reference(values.get("reference"), concepts, path),
    )


def _step(entry: Any, where: str) -> SceneStep:
    values = _mapping(entry, where, _STEP_KEYS)
    erase, restore = (_names(values.get(k, []), f"{where}, {k}") for k in ("erase", "restore"))
    return SceneStep(erase, restore, str(values.get("label", "")))


def _reference(value: Any, concepts: tuple[str, ...], path: Path) -> dict[str, dict[str, str]]:
    """Published numbers: a CSV of ``scene, time`` and a column a concept, and the scene's name."""
    if value is None:
        return {}
    values = _mapping(value, f"'{path}', reference", {"file", "scene"})
    file = path.parent / str(values.get("file", ""))
    if not file.is_file():
        raise NotFoundError(f"'{path}' names the reference '{file}', which does not exist.")
    with file.open(encoding="utf-8-sig", newline="") as lines:
        wanted = (ORIGINAL, str(values["scene"]))
        rows = [row for row in csv.DictReader(lines) if row.get("scene") in wanted]
    # Headers spell names without spaces.
    spelled = {normalised(concept).replace(" ", ""): concept for concept in concepts}
    return {
        ORIGINAL if row["scene"] == ORIGINAL else row["time"]: {
            spelled[key]: text
            for column, text in row.items()
            if (key := normalised(column).replace(" ", "")) in spelled
        }
        for row in rows
    }


def _mapping(value: Any, where: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise InvalidInputError(f"{where} must be a mapping of names to values, not {value!r}.")
    if known is not None and (unknown := sorted(set(value) - known)):
        raise InvalidInputError(
            f"{where} has the unknown key '{unknown[0]}'. Known keys: {', '.join(sorted(known))}."
        )
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInputError(f"{where} must be a list, not {value!r}.")
    return value


def _names(value: Any, where: str) -> tuple[str, ...]:
    names = [str(name).strip() for name in _list(value, where)]
    if not all(names) or len(set(names)) < len(names):
        raise InvalidInputError(f"{where} must be different names, not {value!r}.")
    return tuple(names)


def _lists(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    return {key: _names(names, f"{where}, {key}") for key, names in _mapping(value, where).items()}


def _choice(value: Any, path: Path) -> Kind:
    if value not in ("style", "object"):
        raise InvalidInputError(f"'{path}', kind is 'style' or 'object', not {value!r}.")
    return value


def _count(value: Any, path: Path) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 2):
        raise InvalidInputError(f"'{path}', images is a whole number from 2 on, not {value!r}.")
    return value


def _goals(value: Any, path: Path) -> dict[str, float]:
    goals = _mapping(value, f"'{path}', goals", set(GOALS))
    for name, limit in goals.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise InvalidInputError(f"'{path}', goal '{name}' is a number, not {limit!r}.")
    return {name: float(limit) for name, limit in goals.items()}
