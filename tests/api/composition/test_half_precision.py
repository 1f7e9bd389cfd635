"""Exports in half precision: protected prompts see the base that they know, and files are sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg import api, checkpoints, miniature, pipelines
from shiftreg.api.composition.compose import exact_weights, plan_shifts
from shiftreg.api.composition.contents import Contents, contents_of_file, read_recipe
from shiftreg.api.composition.half_precision import CompensatedRounding
from shiftreg.api.inspection.inspect import inspect_file
from shiftreg.api.values import Progress, ignore_progress
from shiftreg.errors import IntegrityError, InvalidInputError
from shiftreg.rounding import residual
from tests.whole import read_checkpoint, single_file_state

LAYER_KEY = "attn2.to_k.weight"


@pytest.fixture(scope="module")
def exported(erased: api.Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in float16 without Caravaggio; to be copied before it is changed."""
    path = tmp_path_factory.mktemp("export") / "model.safetensors"
    api.export_composition(
        erased, api.plan_composition(erased, api.Selection(without=["Picasso"])), path
    )
    return path


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy of that file and its recipe."""
    path = tmp_path / "model.safetensors"
    shutil.copyfile(exported, path)
    shutil.copyfile(checkpoints.recipe_path_of(exported), checkpoints.recipe_path_of(path))
    return path


def held(workspace: api.Workspace, path: Path) -> Contents:
    return contents_of_file(workspace, path, ignore_progress)


def resealed(path: Path, tensors: Mapping[str, Tensor], recipe: Mapping[str, Any]) -> Path:
    """Writes a file and a recipe that go together, as somebody who wants to deceive would."""
    recipe_path = checkpoints.recipe_path_of(path)
    recipe_path.write_text(json.dumps(recipe), encoding="utf-8")
    digest = checkpoints.file_digest(recipe_path)
    save_file(dict(tensors), path, {"format": "pt", "shiftreg.recipe_sha256": digest})
    return path


def recipe_of(path: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(checkpoints.recipe_path_of(path).read_text())
    return recipe


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_protected_prompts_move_ten_times_less_than_by_plain_rounding(
    erased: api.Workspace, tmp_path: Path, dtype: str
) -> None:
    plan = api.plan_composition(erased)
    export = api.export_composition(erased, plan, tmp_path / "model.safetensors", dtype=dtype)
    effect = export.rounding
    assert effect is not None
    assert effect.compensated is not None
    assert 10 * effect.compensated < effect.plain
    # What is said is what the file's own weights show.
    composition, precision = plan_shifts(erased, plan), getattr(torch, dtype)
    read = checkpoints.parameter_reader(erased.folder)
    recipe = recipe_of(export.path)
    rows = pipelines.encode_prompts(erased.pipeline, recipe["rounding"]["prompts"]).flatten(0, 1)
    exact = exact_weights(erased, composition)
    written = read_checkpoint(export.path)
    changed = [
        name for name in written if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    ]
    assert len(changed) == len(erased.base.layers)
    expected = held(erased, export.path).weights
    plain, compensated = [], []
    for layer in erased.base.layers:
        base = read(layer).to(precision).double()
        assert any(torch.equal(expected[layer], written[name]) for name in changed)
        compensated.append(residual(expected[layer], base, rows))
        plain.append(residual(exact[layer].to(precision), base, rows))
    assert max(plain) == pytest.approx(effect.plain, rel=1e-2)
    assert 10 * max(compensated) < max(plain)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_composing_nothing_gives_the_plainly_cast_base(
    erased: api.Workspace, tmp_path: Path, dtype: str
) -> None:
    plan = api.plan_composition(erased, api.Selection(only=[]))
    export = api.export_composition(erased, plan, tmp_path / "base.ckpt", dtype=dtype)
    assert export.rounding is None
    assert "rounding" not in recipe_of(export.path)
    expected = single_file_state(miniature.BASE_FOLDER, {}, getattr(torch, dtype))
    written = read_checkpoint(export.path)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_single_precision_is_cast_once_as_ever(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    export = api.export_composition(erased, plan, tmp_path / "model.ckpt", dtype="float32")
    assert export.rounding is None
    exact = exact_weights(erased, plan_shifts(erased, plan))
    expected = single_file_state(erased.folder, exact, torch.float32)
    written = read_checkpoint(export.path)
    assert all(torch.equal(written[name], expected[name]) for name in expected)


@pytest.mark.usefixtures("computed_anew")
def test_a_file_is_verified_bit_for_bit_and_both_residuals_are_said(
    erased: api.Workspace, exported: Path
) -> None:
    result = api.verify(erased, exported, images=1)
    checks = {check.name: check for check in result.checks}
    assert checks["file"].passed
    assert "bit for bit." in checks["file"].explanation
    assert checks["rounding"].passed
    assert result.rounding is not None
    assert result.rounding.compensated == checks["rounding"].value < checks["rounding"].limit
    assert "plain rounding would" in result.rounding.statement
    assert checks["noise"].limit == 1e-4
    assert all(check.passed for check in result.checks if check.name == "noise")
    said = api.to_json(result)["rounding"]
    assert said["plain"] > 10 * said["compensated"]
    assert checks["rounding"].explanation == result.rounding.statement


def test_plainly_rounded_files_of_old_recipes_verify(erased: api.Workspace, tmp_path: Path) -> None:
    plan = api.plan_composition(erased)
    path = tmp_path / "model.safetensors"
    export = api.export_composition(erased, plan, path, dtype="bfloat16", rounding="plain")
    assert export.rounding is None
    old = recipe_of(path) | {"order": "ascending digest, summed in float64, cast once"}
    del old["cast"]
    resealed(path, load_file(path), old)
    result = api.verify(erased, path, images=1)
    assert {check.name for check in result.checks if not check.passed} <= {"erasure", "ordinary"}
    assert result.rounding is not None
    assert result.rounding.compensated is None
    assert result.rounding.plain > 1e-4
    assert "error-compensated rounding would move them less" in result.rounding.statement


def test_tampered_prompts_are_noticed(erased: api.Workspace, copied: Path) -> None:
    recipe, tensors = recipe_of(copied), load_file(copied)
    recipe["rounding"]["prompts"] = [""]
    checkpoints.recipe_path_of(copied).write_text(json.dumps(recipe))
    with pytest.raises(IntegrityError, match="recipe"):
        held(erased, copied)
    # Even by somebody who puts the digest right.
    (check, *_) = held(erased, resealed(copied, tensors, recipe)).checks
    assert not check.passed
    del recipe["rounding"]
    (check, *_) = held(erased, resealed(copied, tensors, recipe)).checks
    assert not check.passed


@pytest.mark.parametrize(
    "change",
    [
        {"method": "magic"},
        {"prompts": ["", 3]},
        {"prompts": ""},
        {"fine_entries": -1},
        {"fine_entries": 10**9},
        {"damping": 0.0},
        {"damping": "1"},
        None,
    ],
)
def test_an_unknown_way_of_rounding_is_refused(change: dict[str, object] | None) -> None:
    known = CompensatedRounding(("", "Picasso"))
    recipe: dict[str, Any] = {"rounding": known.as_recipe()}
    assert CompensatedRounding.of_recipe(json.loads(json.dumps(recipe))) == known
    assert CompensatedRounding.of_recipe({}) is None
    recipe["rounding"] = recipe["rounding"] | change if change else []
    with pytest.raises(IntegrityError, match="rounded in a way that is not known"):
        CompensatedRounding.of_recipe(recipe)


def test_what_another_machine_rounds_is_accepted_and_nothing_worse(
    erased: api.Workspace, copied: Path
) -> None:
    """Other last bits of the embeddings lead to other roundings, of the same quality."""
    tensors, recipe = load_file(copied), recipe_of(copied)
    name = next(name for name in tensors if LAYER_KEY in name)
    # The same thing rounded with one entry less in order: other bits, as good a residual.
    stated = read_recipe(erased, copied)
    assert stated.rounding is not None
    recipe["rounding"]["fine_entries"] = stated.rounding.fine_entries - 1
    other = held(erased, resealed(copied, tensors, recipe))
    assert other.checks[0].passed
    assert "as another machine rounds" in other.checks[0].explanation
    # One value, a step away: near enough, and not what protected prompts see.
    recipe["rounding"]["fine_entries"] += 1
    value = tensors[name].clone()
    value[0, 0] = torch.nextafter(value[0, 0], torch.tensor(9.0, dtype=value.dtype))
    moved = held(erased, resealed(copied, {**tensors, name: value}, recipe))
    assert not moved.checks[0].passed
    assert name in moved.checks[0].explanation


def test_inspection_recognises_such_a_file_bit_for_bit(
    erased: api.Workspace, copied: Path, exported: Path
) -> None:
    assert "bit for bit" in inspect_file(erased, copied).verdict
    # Without recipe and metadata, the registry says what it may have been held to.
    save_file(load_file(copied), copied)
    checkpoints.recipe_path_of(copied).unlink()
    found = inspect_file(erased, copied)
    assert "bit for bit" in found.verdict
    assert [(shift.low, shift.high) for shift in found.shifts] == [(1.0, 1.0)]
    # A recipe that lies, or is no recipe, changes nothing.
    for lie in ({**recipe_of(exported), "rounding": {"method": "magic"}}, [], 3):
        checkpoints.recipe_path_of(copied).write_text(json.dumps(lie))
        assert "bit for bit" in inspect_file(erased, copied).verdict
    lie = recipe_of(exported)
    lie["rounding"]["prompts"] = ["x " * 500]
    checkpoints.recipe_path_of(copied).write_text(json.dumps(lie))
    assert "bit for bit" in inspect_file(erased, copied).verdict


def test_inspection_without_a_clue_says_up_to_rounding(erased: api.Workspace, copied: Path) -> None:
    other = recipe_of(copied)
    other["rounding"]["prompts"] = ["", "Caravaggio", "Picasso"]
    stated = CompensatedRounding.of_recipe(other)
    assert stated is not None
    state = held(erased, resealed(copied, load_file(copied), other)).weights
    save_file(
        single_file_state(erased.folder, {name: w.double() for name, w in state.items()}), copied
    )
    checkpoints.recipe_path_of(copied).unlink()
    found = inspect_file(erased, copied)
    assert found.passed
    assert "up to rounding" in found.verdict


def test_rounding_is_shown_while_it_runs_and_unknown_ways_are_refused(
    erased: api.Workspace, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    plan = api.plan_composition(erased)
    api.export_composition(erased, plan, tmp_path / "model.ckpt", observe=seen.append)
    layers = [one for one in seen if one.stage == "rounding to float16"]
    assert [one.done for one in layers] == list(range(len(erased.base.layers)))
    with pytest.raises(InvalidInputError, match="compensated or plain"):
        api.export_composition(erased, plan, tmp_path / "other.ckpt", rounding="magic")
