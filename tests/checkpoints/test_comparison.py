from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import (
    checkpoint_digest,
    compare_checkpoint,
    export_checkpoint,
    file_digest,
    read_recipe_digest,
)
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.release import file_digests
from tests.whole import read_checkpoint

TARGETS = ("model.safetensors", "model.ckpt", "model")
KEY = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
FOLDER_KEY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_an_export_equals_base_and_layers(
    base: Path,
    tmp_path: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    target: str,
    dtype: torch.dtype | None,
) -> None:
    export_checkpoint(base, layers, tmp_path / target, recipe, dtype=dtype)
    found = compare_checkpoint(tmp_path / target, base, layers, dtype)
    assert found.equal
    assert (found.differing, found.missing, found.extra) == ((), (), ())
    assert found.largest_difference == 0.0
    assert compare_checkpoint(base, base, {}).equal


@pytest.mark.parametrize("target", TARGETS)
def test_layers_that_were_not_merged_are_named_with_their_distance(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    export_checkpoint(base, {}, tmp_path / target, recipe)
    found = compare_checkpoint(tmp_path / target, base, layers)
    assert not found.equal
    assert (FOLDER_KEY if target == "model" else KEY) in found.differing
    assert len(found.differing) == 2
    state = read_checkpoint(tmp_path / target)
    expected = next(iter(layers.values())).half().double()
    assert found.largest_difference >= float((state[KEY].double() - expected).abs().max()) > 0


@pytest.mark.parametrize("target", TARGETS)
def test_the_digests_are_those_of_the_files_that_were_compared(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    done = export_checkpoint(base, layers, tmp_path / target, recipe)
    if target == "model":
        (tmp_path / target / ".hidden").write_text("x")
    equal = compare_checkpoint(done.path, base, layers)
    other = compare_checkpoint(done.path, base, {}, accepts=lambda _name, _value: False)
    for found in (equal, other):
        assert found.digest == done.digest == checkpoint_digest(done.path)
        assert found.files == file_digests(done.path)


def test_values_that_several_tensors_share_are_compared_for_each(
    base: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(base)
    state["twin"] = state[KEY]
    state["turned"] = state[KEY].T
    torch.save(dict(reversed(state.items())), tmp_path / "model.ckpt")
    found = compare_checkpoint(tmp_path / "model.ckpt", base, {})
    assert (found.differing, found.missing, found.extra) == ((), (), ("turned", "twin"))
    assert found.digest == file_digest(tmp_path / "model.ckpt")


@pytest.mark.parametrize("target", TARGETS)
def test_all_three_forms_read_the_same(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    export_checkpoint(base, layers, tmp_path / target, recipe)
    state = read_checkpoint(tmp_path / target)
    assert torch.equal(state[KEY], next(iter(layers.values())).half())
    assert sorted({name.split(".")[0] for name in state}) == [
        "cond_stage_model",
        "first_stage_model",
        "model",
    ]


def test_missing_extra_and_altered_tensors_are_told_apart(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    path = tmp_path / "model.safetensors"
    export_checkpoint(base, layers, path, recipe)
    intact = load_file(path)
    zero = "model.diffusion_model.out.2.bias"
    first, *_ = sorted(intact)
    expected = {
        "missing": ({k: v for k, v in intact.items() if k != first}, 0.0),
        "extra": (intact | {"more": torch.zeros(1)}, 0.0),
        "shape": (intact | {zero: torch.zeros(1, dtype=torch.float16)}, float("inf")),
        "dtype": (intact | {KEY: intact[KEY].float()}, 0.0),
        "nan": (intact | {KEY: intact[KEY] * float("nan")}, float("inf")),
        "negative zero": (intact | {KEY: -intact[KEY] * 0}, float(intact[KEY].abs().max())),
    }
    for case, (state, difference) in expected.items():
        save_file(state, path)
        found = compare_checkpoint(path, base, layers)
        assert not found.equal, case
        assert found.missing == ((first,) if case == "missing" else ())
        assert found.extra == (("more",) if case == "extra" else ())
        assert len(found.differing) == (0 if case in ("missing", "extra") else 1)
        assert found.largest_difference == difference, case


def test_the_sign_of_a_zero_is_a_difference(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    name = next(iter(layers))
    zeros = {name: torch.zeros_like(layers[name])}
    export_checkpoint(base, zeros, tmp_path / "model.ckpt", recipe)
    assert compare_checkpoint(tmp_path / "model.ckpt", base, zeros).equal
    found = compare_checkpoint(tmp_path / "model.ckpt", base, {name: -zeros[name]})
    assert found.differing == (KEY,)
    assert found.largest_difference == 0.0


def test_checkpoints_of_other_tools_are_read(base: Path, tmp_path: Path) -> None:
    state = read_checkpoint(base)
    torch.save(state, tmp_path / "bare.ckpt")
    assert compare_checkpoint(tmp_path / "bare.ckpt", base, {}).equal
    assert read_recipe_digest(tmp_path / "bare.ckpt") is None
    save_file(state, tmp_path / "bare.safetensors")
    assert compare_checkpoint(tmp_path / "bare.safetensors", base, {}).equal
    assert read_recipe_digest(tmp_path / "bare.safetensors") is None


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.txt").touch()
    (tmp_path / "bad.ckpt").write_bytes(b"bad")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    torch.save({"state_dict": {"x": 5}}, tmp_path / "numbers.ckpt")
    for name, error in {
        "none.ckpt": NotFoundError,
        "empty": InvalidInputError,
        "model.txt": InvalidInputError,
        "bad.ckpt": IntegrityError,
        "bad.safetensors": IntegrityError,
        "numbers.ckpt": IntegrityError,
    }.items():
        with pytest.raises(error, match=name):
            read_checkpoint(tmp_path / name)
