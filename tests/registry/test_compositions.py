from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shiftreg.errors import NotFoundError
from shiftreg.registry import Registry, ShiftVersion, open_registry

Erase = Callable[..., ShiftVersion]


def test_a_composition_is_read_back_as_it_was_registered(
    registry: Registry, erase: Erase, tmp_path: Path, home: Path
) -> None:
    picasso, _, klee = erase("Picasso"), erase("Monet"), erase("Klee")
    recipe = tmp_path / "recipe.json"
    recipe.write_text("{}")
    made = registry.compositions.register(
        "miniature",
        [picasso, klee],
        digest="c" * 64,
        export_path="/models/clean.safetensors",
        export_digest="1" * 64,
        recipe_digest="2" * 64,
        restored=["Monet"],
        files=[recipe],
        reason="release",
        actor="someone",
    )
    assert made.version == 1
    assert made.shifts == (("Picasso", 1, picasso.digest), ("Klee", 1, klee.digest))
    assert made.erased == ("Picasso", "Klee")
    assert made.restored == ("Monet",)
    assert made.verification is None
    assert open_registry(home).compositions.all("miniature") == [made]
    files = MlflowClient(registry.uri).list_artifacts(made.run_id, "composition")
    assert {file.path for file in files} == {
        "composition/composition.json",
        "composition/recipe.json",
    }


def test_the_empty_composition_can_be_registered(registry: Registry) -> None:
    made = registry.compositions.register("miniature", [], digest="c" * 64)
    assert (made.erased, made.restored, made.verification) == ((), (), None)


def test_compositions_are_no_concepts(registry: Registry, erase: Erase) -> None:
    erase("compositions")
    registry.compositions.register(
        "miniature", registry.shifts.active("miniature"), digest="c" * 64
    )
    registry.compositions.register("miniature", [], digest="d" * 64)
    assert registry.shifts.concepts("miniature") == ("compositions",)
    assert [c.version for c in registry.compositions.all("miniature")] == [1, 2]
    assert len(registry.shifts.versions("miniature", "compositions")) == 1


def test_a_long_list_of_concepts_is_kept_whole(registry: Registry) -> None:
    names = tuple(f"a concept by the name of {number}" for number in range(5000))
    made = registry.compositions.register("miniature", [], digest="c" * 64, restored=names)
    assert made.restored == names
    assert registry.compositions.all("miniature") == [made]


def test_a_missing_file_leaves_no_composition(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.json"):
        registry.compositions.register(
            "miniature", [], digest="c" * 64, files=[tmp_path / "none.json"]
        )
    assert registry.compositions.all("miniature") == []
