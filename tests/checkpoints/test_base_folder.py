"""The weight files of a folder: single, sharded, of a variant; whole, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import (
    check_base_weights,
    compare_checkpoint,
    export_checkpoint,
    parameter_reader,
    read_component,
    unet_dtype,
)
from shiftreg.checkpoints.base_folder import stored_component, weight_files
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError, ShiftregError
from shiftreg.pipelines import load_pipeline

INDEX = "diffusion_pytorch_model.safetensors.index.json"
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"


@pytest.fixture
def sharded(base: Path, tmp_path: Path) -> Path:
    """A base whose UNet is in several files."""
    folder = Path(shutil.copytree(base, tmp_path / "sharded"))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float16)
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="10KB")
    assert len(weight_files(folder / "unet")) > 2
    return folder


def change_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "unet" / INDEX
    index = json.loads(path.read_text())
    changed = change(index)
    path.write_text(json.dumps(index if changed is None else changed))


def test_shards_are_read_as_one(base: Path, sharded: Path) -> None:
    whole, parts = read_component(base / "unet"), read_component(sharded / "unet")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("target", ["model.safetensors", "model.ckpt", "model"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
def test_every_form_of_export_is_written_from_shards(
    sharded: Path, tmp_path: Path, target: str, dtype: torch.dtype | None
) -> None:
    layers = {LAYER: parameter_reader(sharded)(LAYER).double() + 1}
    export_checkpoint(sharded, layers, tmp_path / target, {}, dtype=dtype)
    assert compare_checkpoint(tmp_path / target, sharded, layers, dtype).equal


def test_a_missing_shard_is_named(sharded: Path, tmp_path: Path) -> None:
    lost = weight_files(sharded / "unet")[1]
    lost.unlink()
    for use in (
        lambda: read_component(sharded / "unet"),
        lambda: stored_component(sharded / "unet"),
        lambda: export_checkpoint(sharded, {}, tmp_path / "model.ckpt", {}),
    ):
        with pytest.raises(NotFoundError, match=lost.name):
            use()
    assert not (tmp_path / "model.ckpt").exists()


def test_an_index_that_names_other_shards_is_refused(sharded: Path) -> None:
    first, second = (file.name for file in weight_files(sharded / "unet")[:2])

    def exchanged(index: dict[str, Any]) -> None:
        names = index["weight_map"]
        other = {first: second, second: first}
        index["weight_map"] = {name: other.get(file, file) for name, file in names.items()}

    change_index(sharded, exchanged)
    with pytest.raises(IntegrityError, match=r"index of .*unet' says that .* and it is not"):
        read_component(sharded / "unet")


def test_a_tensor_that_the_index_promises_and_no_shard_has_is_named(sharded: Path) -> None:
    name = weight_files(sharded / "unet")[0].name
    change_index(sharded, lambda index: index["weight_map"].update({"lost.weight": name}))
    with pytest.raises(IntegrityError, match=r"'lost\.weight'"):
        stored_component(sharded / "unet")


def test_a_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    first, second = weight_files(sharded / "unet")[:2]
    tensors = load_file(first)
    name = next(iter(tensors))
    save_file(load_file(second) | {name: tensors[name] + 1}, second, {"format": "pt"})
    with pytest.raises(IntegrityError, match=f"in one shard, and '{name}'"):
        read_component(sharded / "unet")


@pytest.mark.parametrize(
    "index",
    [
        {},
        [],
        {"metadata": {}},
        {"weight_map": []},
        {"weight_map": {"a": 5}},
        {"weight_map": {"a": ["x"]}},
        {"weight_map": {"a": ""}},
        {"weight_map": {"a": ".."}},
        {"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}},
        {"weight_map": {"a": "/etc/passwd"}},
        {"weight_map": {"a": "x\0"}},
    ],
    ids=str,
)
def test_an_index_that_is_none_is_refused(sharded: Path, index: Any) -> None:
    change_index(sharded, lambda _: index)
    with pytest.raises(ShiftregError, match="index"):
        weight_files(sharded / "unet")


@pytest.mark.parametrize("shards", [False, True])
def test_weights_of_a_variant_are_taken_where_there_are_no_others(
    base: Path, tmp_path: Path, shards: bool
) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "variant"))
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float16)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    size = "10KB" if shards else "10GB"
    unet.save_pretrained(folder / "unet", variant="fp16", max_shard_size=size)
    files = weight_files(folder / "unet")
    assert (len(files) > 1) == shards
    assert all("fp16" in file.name for file in files)
    assert unet_dtype(folder) == torch.float16
    export_checkpoint(folder, {}, tmp_path / "model.safetensors", {})
    assert compare_checkpoint(tmp_path / "model.safetensors", base, {}).equal


def test_plain_weights_come_before_those_of_a_variant(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "both"))
    plain = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({"x": torch.ones(1)}, folder / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert weight_files(folder / "unet") == (plain,)


def test_pickles_are_refused_with_a_remedy(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "pickled"))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InvalidInputError, match="safe_serialization=True"):
        weight_files(folder / "unet")


WEIGHT = f"{LAYER}.weight"
WEIGHTS = {
    "unet": WEIGHT,
    "vae": "decoder.conv_in.weight",
    "text_encoder": "encoder.layers.0.mlp.fc1.weight",
}
State = dict[str, Tensor]


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    """A base that may be damaged."""
    return Path(shutil.copytree(base, tmp_path / "mine"))


def change(folder: Path, part: str, to: Callable[[State], State]) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    save_file(to(load_file(file)), file, {"format": "pt"})


def names(folder: Path) -> list[str]:
    return list(read_component(folder / "unet"))


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_no_floating_numbers_are_refused_by_name(
    folder: Path, part: str, dtype: torch.dtype
) -> None:
    check_base_weights(folder, names(folder))
    name = WEIGHTS[part]
    change(folder, part, lambda state: state | {name: state[name].to(dtype)})
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidInputError, match=f"'{name}' in '.*{part}' holds {kind}"):
        check_base_weights(folder, names(folder))


def test_the_positions_of_old_text_encoders_are_no_weights(folder: Path) -> None:
    positions = {"text_model.embeddings.position_ids": torch.arange(64)}
    change(folder, "text_encoder", lambda state: state | positions)
    check_base_weights(folder, names(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_floating_numbers_of_several_precisions_are_read(folder: Path, dtype: torch.dtype) -> None:
    change(folder, "unet", lambda state: state | {WEIGHT: state[WEIGHT].to(dtype)})
    check_base_weights(folder, names(folder))


def test_what_the_configuration_asks_for_and_no_file_holds_is_named(folder: Path) -> None:
    wanted = names(folder)
    change(folder, "unet", lambda state: {n: t for n, t in state.items() if n != WEIGHT})
    with pytest.raises(IntegrityError, match=f"no '{WEIGHT}'.*Copy the whole folder"):
        check_base_weights(folder, wanted)
    change(folder, "unet", lambda state: {"conv_in.bias": state["conv_in.bias"]})
    with pytest.raises(IntegrityError, match=rf"\({len(wanted) - 1} are missing\)"):
        check_base_weights(folder, wanted)


@pytest.mark.parametrize("part", WEIGHTS)
@pytest.mark.parametrize("shape", [(-1,), (1, -1, 1)])
def test_weights_of_another_shape_are_refused_when_they_are_loaded(
    folder: Path, part: str, shape: tuple[int, ...]
) -> None:
    name = WEIGHTS[part]
    change(folder, part, lambda state: state | {name: state[name].reshape(shape)})
    with pytest.raises(IntegrityError, match=r"(?s)cannot be loaded .*copy the folder again"):
        load_pipeline(folder)
