from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, safe_open, save_file
from torch import Tensor

from shiftreg.checkpoints import (
    compare_checkpoint,
    digested_file,
    export_checkpoint,
    export_format,
    file_digest,
    folder_digest,
    read_recipe_digest,
)
from shiftreg.checkpoints.base_folder import read_component
from shiftreg.checkpoints.digested_file import BLOCK
from shiftreg.checkpoints.tensor_files import stored_safetensors
from shiftreg.errors import (
    AlreadyExistsError,
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)

TARGETS = ("model.safetensors", "model.ckpt", "model")
PARTS = ("unet", "vae", "text_encoder")
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def load(path: Path, base: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    """Loads an export as its users do, without a network and without a safety checker."""
    common: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    if path.is_dir():
        return StableDiffusionPipeline.from_pretrained(path, **common)
    return StableDiffusionPipeline.from_single_file(
        str(path), config=str(base), safety_checker=None, **common
    )


def assert_holds(
    pipeline: StableDiffusionPipeline,
    base: Path,
    layers: dict[str, Tensor],
    dtype: torch.dtype,
) -> None:
    """The loaded models hold the base's weights and the merged layers, bit for bit."""
    for part in PARTS:
        expected = read_component(base / part)
        if part == "unet":
            expected |= {f"{name}.weight": weight for name, weight in layers.items()}
        actual = getattr(pipeline, part).state_dict()
        assert actual.keys() == expected.keys()
        for name, tensor in expected.items():
            assert actual[name].dtype == dtype
            assert torch.equal(actual[name], tensor.to(dtype)), name


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fixture", ["base", "stable_diffusion_base"])
def test_diffusers_loads_base_and_merged_layers_bit_for_bit(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    fixture: str,
    target: str,
) -> None:
    base = request.getfixturevalue(fixture)
    done = export_checkpoint(base, layers, tmp_path / target, recipe)
    pipeline = load(done.path, base, torch.float16)
    assert pipeline.safety_checker is None
    assert_holds(pipeline, base, layers, torch.float16)


@pytest.mark.parametrize("target", TARGETS)
def test_an_export_in_another_dtype_casts_every_weight(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    done = export_checkpoint(base, layers, tmp_path / target, recipe, dtype=torch.float32)
    assert done.dtype == "float32"
    # The merged layers keep the precision that half precision would have cost.
    assert_holds(load(done.path, base, torch.float32), base, layers, torch.float32)


def test_a_folder_in_another_dtype_loads_in_it_unasked(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, layers, tmp_path / "model", recipe, dtype=torch.float32)
    pipeline = StableDiffusionPipeline.from_pretrained(done.path, local_files_only=True)
    assert_holds(pipeline, base, layers, torch.float32)


def test_a_layer_that_is_part_of_a_larger_tensor_is_written_alone(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    layer = next(iter(layers))
    window = torch.zeros(1_000_000, dtype=torch.float16)[: layers[layer].numel()]
    window = {layer: window.view(layers[layer].shape)}
    done = export_checkpoint(base, window, tmp_path / "model.ckpt", recipe)
    assert done.path.stat().st_size < 1_000_000


def test_the_result_names_what_was_written(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    for target, form in zip(TARGETS, ("safetensors", "ckpt", "folder"), strict=True):
        done = export_checkpoint(base, layers, tmp_path / target, recipe)
        assert (done.path, done.format, done.dtype) == (tmp_path / target, form, "float16")
        digest = folder_digest(done.path) if form == "folder" else file_digest(done.path)
        assert done.digest == digest
        assert done.recipe_path == tmp_path / f"{target}.recipe.json"
        assert json.loads(done.recipe_path.read_text()) == recipe
        content = done.recipe_path.read_bytes()
        assert done.recipe_digest == hashlib.sha256(content).hexdigest()
        assert read_recipe_digest(done.path) == done.recipe_digest


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_equal_input_gives_equal_bytes(
    base: Path,
    tmp_path: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    target: str,
    dtype: torch.dtype | None,
) -> None:
    (tmp_path / "again").mkdir()
    turned = dict(reversed(recipe.items()))
    other_layers = {name: layers[name].T.contiguous().T for name in reversed(layers)}
    one = export_checkpoint(base, layers, tmp_path / target, recipe, dtype=dtype)
    other_target = tmp_path / "again" / f"other-{target}"
    other = export_checkpoint(base, other_layers, other_target, turned, dtype=dtype)
    assert one.digest == other.digest
    assert one.recipe_digest == other.recipe_digest


def test_a_ckpt_is_read_by_torch_without_trust(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, layers, tmp_path / "model.ckpt", recipe)
    content = torch.load(done.path, weights_only=True)
    assert content.keys() == {"state_dict", "shiftreg.recipe_sha256"}
    assert content["shiftreg.recipe_sha256"] == done.recipe_digest
    single = export_checkpoint(base, layers, tmp_path / "model.safetensors", recipe)
    assert content["state_dict"].keys() == load_file(single.path).keys()


def test_an_export_of_nothing_into_a_folder_is_the_base(
    base: Path, tmp_path: Path, recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, {}, tmp_path / "model", recipe)
    assert done.digest == folder_digest(base)
    assert read_recipe_digest(done.path) is None
    for source in base.rglob("*"):
        if source.is_file():
            assert (done.path / source.relative_to(base)).read_bytes() == source.read_bytes()


def test_a_folder_changes_only_the_weights_of_the_unet(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, layers, tmp_path / "model", recipe)
    files = {file.relative_to(base) for file in base.rglob("*") if file.is_file()}
    assert {f.relative_to(done.path) for f in done.path.rglob("*") if f.is_file()} == files
    changed = {str(f) for f in files if (done.path / f).read_bytes() != (base / f).read_bytes()}
    assert changed == {UNET_FILE}
    before, after = load_file(base / UNET_FILE), load_file(done.path / UNET_FILE)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"{layer}.weight" for layer in layers
    }
    with safe_open(done.path / UNET_FILE, "pt") as handle:
        assert handle.metadata()["format"] == "pt"


def test_in_a_folder_only_the_bytes_of_merged_layers_differ(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, layers, tmp_path / "model", recipe)
    files = (base / UNET_FILE, done.path / UNET_FILE)
    before, after = (stored_safetensors(file)[0] for file in files)
    assert list(before) == list(after)
    first, other = (next(iter(stored.values())).offset for stored in (before, after))
    # At the same place of a block, so that file systems that can share the rest do.
    assert first % BLOCK == other % BLOCK
    contents = [bytearray(files[0].read_bytes()[first:]), bytearray(files[1].read_bytes()[other:])]
    assert contents[0] != contents[1]
    for layer, weight in layers.items():
        tensor = before[f"{layer}.weight"]
        start, size = tensor.offset - first, tensor.dtype.itemsize * weight.numel()
        for content in contents:
            content[start : start + size] = bytes(size)
    assert contents[0] == contents[1]


@pytest.fixture
def copied(base: Path, tmp_path: Path) -> Path:
    """A copy of the base that a test may change."""
    shutil.copytree(base, tmp_path / "copied")
    return tmp_path / "copied"


def test_no_other_copy_of_the_weights_survives_in_a_folder(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    for name in (
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_flax_model.msgpack",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "v1-5-pruned.ckpt",
    ):
        shutil.copyfile(copied / UNET_FILE, copied / name)
    shutil.copyfile(copied / "text_encoder/model.safetensors", copied / "text_encoder/model.bin")
    done = export_checkpoint(copied, layers, tmp_path / "model", recipe)
    assert names(done.path / "unet") == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert not (done.path / "v1-5-pruned.ckpt").exists()
    assert (done.path / "text_encoder/model.bin").exists()


def test_a_base_in_half_precision_files_only_is_read(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    for part in PARTS:
        (plain,) = (copied / part).glob("*.safetensors")
        plain.rename(plain.with_suffix(".fp16.safetensors"))
    single = export_checkpoint(copied, layers, tmp_path / "model.safetensors", recipe)
    assert_holds(load(single.path, copied, torch.float16), copied, layers, torch.float16)
    folder = export_checkpoint(copied, layers, tmp_path / "model", recipe)
    unet = UNet2DConditionModel.from_pretrained(
        folder.path / "unet", variant="fp16", torch_dtype=torch.float16
    )
    for name, weight in layers.items():
        assert torch.equal(unet.state_dict()[f"{name}.weight"], weight.half())


def test_a_sharded_base_is_read_and_stays_sharded(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    unet = UNet2DConditionModel.from_pretrained(copied / "unet", torch_dtype=torch.float16)
    shutil.rmtree(copied / "unet")
    unet.save_pretrained(copied / "unet", max_shard_size="20KB")
    before = names(copied / "unet")
    assert len(before) > 4
    single = export_checkpoint(copied, layers, tmp_path / "model.ckpt", recipe)
    assert_holds(load(single.path, copied, torch.float16), copied, layers, torch.float16)
    folder = export_checkpoint(copied, layers, tmp_path / "model", recipe)
    assert names(folder.path / "unet") == before
    assert read_recipe_digest(folder.path) == folder.recipe_digest
    assert_holds(load(folder.path, copied, torch.float16), copied, layers, torch.float16)


def test_the_suffix_decides_on_the_form(tmp_path: Path) -> None:
    (tmp_path / "sd-v1.4").mkdir()
    assert export_format("a.ckpt") == "ckpt"
    assert export_format(Path("A.SafeTensors")) == "safetensors"
    assert export_format("model") == "folder"
    assert export_format("new-v1.4/") == "folder"
    assert export_format(tmp_path / "sd-v1.4") == "folder"
    for other in ("model.pt", "model.bin", "model.v1"):
        with pytest.raises(InvalidInputError, match=r"\.safetensors.*\.ckpt.*folder"):
            export_format(other)


def test_a_slash_at_the_end_asks_for_a_folder(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    done = export_checkpoint(base, layers, f"{tmp_path}/sd-v1.4/", recipe)
    assert done.format == "folder"
    assert names(tmp_path) == ["sd-v1.4", "sd-v1.4.recipe.json"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_existing_export_is_replaced_only_when_asked(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    first = export_checkpoint(base, layers, tmp_path / target, recipe)
    with pytest.raises(AlreadyExistsError, match=target):
        export_checkpoint(base, layers, tmp_path / target, recipe)
    other = {"base": "other"}
    second = export_checkpoint(base, layers, tmp_path / target, other, overwrite=True)
    assert second.digest != first.digest
    assert (
        read_recipe_digest(second.path) == second.recipe_digest == file_digest(second.recipe_path)
    )
    assert names(tmp_path) == [target, f"{target}.recipe.json"]


def test_a_recipe_that_is_there_is_not_overwritten_unasked(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    (tmp_path / "model.ckpt.recipe.json").write_text("mine")
    with pytest.raises(AlreadyExistsError, match=r"recipe\.json"):
        export_checkpoint(base, layers, tmp_path / "model.ckpt", recipe)
    assert names(tmp_path) == ["model.ckpt.recipe.json"]


def test_overwriting_never_deletes_a_folder_of_something_else(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    with pytest.raises(InvalidInputError, match="home"):
        export_checkpoint(base, layers, tmp_path / "home", recipe, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "precious"


def test_the_base_itself_is_never_a_target(
    copied: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    digest = folder_digest(copied)
    for target in (copied, copied / "model.ckpt", copied / "unet" / "x", copied.parent):
        with pytest.raises(InvalidInputError, match="a base never changes"):
            export_checkpoint(copied, layers, target, recipe, overwrite=True)
    assert folder_digest(copied) == digest


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interruption_in_the_middle_leaves_everything_as_it_was(
    base: Path,
    tmp_path: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    overwrite: bool,
) -> None:
    if overwrite:
        export_checkpoint(base, layers, tmp_path / target, recipe)
    listing = names(tmp_path)
    before = folder_digest(tmp_path, ["*"]) if listing else None

    pieces, update = iter(range(500)), digested_file._Digest.update

    def interrupt_later(digest: digested_file._Digest, *data: Any) -> None:
        update(digest, *data)
        if next(pieces) == 100:
            assert any(name.endswith(".partial") for name in names(tmp_path))
            raise KeyboardInterrupt

    monkeypatch.setattr(digested_file._Digest, "update", interrupt_later)
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(base, layers, tmp_path / target, {}, overwrite=overwrite)
    assert names(tmp_path) == listing
    assert before == (folder_digest(tmp_path, ["*"]) if listing else None)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_at_the_last_rename_takes_the_recipe_back(
    base: Path,
    tmp_path: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    overwrite: bool,
) -> None:
    if overwrite:
        export_checkpoint(base, layers, tmp_path / target, recipe)
    listing = names(tmp_path)
    before = folder_digest(tmp_path, ["*"]) if listing else None
    originals = {name: getattr(os, name) for name in ("link", "rename", "replace")}

    def interrupt_once(name: str, source: Path, destination: Path) -> None:
        if destination == tmp_path / target:
            assert "recipe" in (tmp_path / f"{target}.recipe.json").read_text()
            monkeypatch.undo()
            raise KeyboardInterrupt
        originals[name](source, destination)

    for name in originals:
        monkeypatch.setattr(os, name, partial(interrupt_once, name))
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(base, layers, tmp_path / target, {"recipe": 2}, overwrite=overwrite)
    assert names(tmp_path) == listing
    assert before == (folder_digest(tmp_path, ["*"]) if listing else None)


@pytest.mark.parametrize("target", TARGETS)
def test_a_full_disk_leaves_nothing(
    base: Path,
    small_disk: Path,
    layers: dict[str, Tensor],
    recipe: dict[str, Any],
    target: str,
) -> None:
    with pytest.raises(StorageError, match=rf"{target}.*No space left.*Free some space"):
        export_checkpoint(base, layers, small_disk / target, recipe)
    assert names(small_disk) == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_place_that_cannot_be_written_is_named(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "missing", Path("/proc")):
        with pytest.raises(StorageError, match=str(folder / target)):
            export_checkpoint(base, layers, folder / target, recipe)


def test_layers_that_do_not_fit_are_refused(
    base: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    layer = next(iter(layers))

    def with_one(value: float) -> dict[str, Tensor]:
        changed = layers[layer].clone()
        changed[3, 4] = value
        return {layer: changed}

    bad = {
        "unknown": ({"down_blocks.9.to_k": layers[layer]}, IncompatibleError, "down_blocks.9"),
        "shape": ({layer: layers[layer][:1]}, IncompatibleError, "shape"),
        "nan": ({layer: layers[layer] * float("nan")}, InvalidInputError, "NaN"),
        "one nan": (with_one(float("nan")), InvalidInputError, "NaN"),
        "infinity": (with_one(float("-inf")), InvalidInputError, "infinity"),
        "range": ({layer: layers[layer] * 1e6}, InvalidInputError, "float16"),
        "one too large": (with_one(-70000.0), InvalidInputError, "70000 do not fit .*float16"),
    }
    for changed, error, message in bad.values():
        for target in TARGETS:
            with pytest.raises(error, match=message):
                export_checkpoint(base, changed, tmp_path / target, recipe)
    assert names(tmp_path) == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_base_of_pickles_is_refused_with_the_remedy(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any], target: str
) -> None:
    torch.save(load_file(copied / UNET_FILE), copied / "unet" / "diffusion_pytorch_model.bin")
    (copied / UNET_FILE).unlink()
    with pytest.raises(InvalidInputError, match="safe_serialization=True"):
        export_checkpoint(copied, layers, tmp_path / target, recipe)
    assert names(tmp_path) == ["copied"]


def test_what_is_no_base_is_refused(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    target = tmp_path / "model.safetensors"
    with pytest.raises(NotFoundError, match="none"):
        export_checkpoint(tmp_path / "none", layers, target, recipe)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="save_pretrained"):
        export_checkpoint(tmp_path / "empty", layers, target, recipe)
    (copied / "text_encoder_2").mkdir()
    with pytest.raises(InvalidInputError, match="text_encoder_2' holds no weights"):
        export_checkpoint(copied, layers, target, recipe)
    (copied / "text_encoder_2").rmdir()
    shutil.rmtree(copied / "text_encoder")
    with pytest.raises(InvalidInputError, match="text_encoder"):
        export_checkpoint(copied, layers, target, recipe)


def test_a_damaged_base_is_refused(
    base: Path, copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    content = (copied / UNET_FILE).read_bytes()
    (copied / UNET_FILE).write_bytes(content[:-1])
    for target in TARGETS:
        with pytest.raises(IntegrityError, match="unet"):
            export_checkpoint(copied, layers, tmp_path / target, recipe)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["conv_out.bias"]["data_offsets"][1] += 2
    lies = json.dumps(header).encode()
    (copied / UNET_FILE).write_bytes(
        len(lies).to_bytes(8, "little") + lies + content[8 + length :] + bytes(2)
    )
    for target in TARGETS:
        with pytest.raises(IntegrityError, match="unet"):
            export_checkpoint(copied, layers, tmp_path / target, recipe)
    assert names(tmp_path) == ["copied"]
    (copied / UNET_FILE).write_bytes(content)
    for part in ("vae", "unet"):
        for text in ("{", "{}", "[]", '{"layers_per_block": 1}'):
            (copied / part / "config.json").write_text(text)
            with pytest.raises(IntegrityError, match=rf"{part}/config\.json"):
                export_checkpoint(copied, layers, tmp_path / "model.ckpt", recipe)
        shutil.copyfile(base / part / "config.json", copied / part / "config.json")
    index = copied / "unet/diffusion_pytorch_model.safetensors.index.json"
    (copied / UNET_FILE).unlink()
    index.write_text(json.dumps({"weight_map": {"x": "../vae/evil.safetensors"}}))
    with pytest.raises(InvalidInputError, match="outside of its folder"):
        export_checkpoint(copied, layers, tmp_path / "model", recipe)
    index.write_text(json.dumps({"weight_map": {"x": "gone.safetensors"}}))
    with pytest.raises(NotFoundError, match="gone"):
        export_checkpoint(copied, layers, tmp_path / "model", recipe)


def test_a_dtype_or_recipe_that_cannot_be_is_refused(
    base: Path, tmp_path: Path, layers: dict[str, Tensor]
) -> None:
    with pytest.raises(InvalidInputError, match="int8"):
        export_checkpoint(base, layers, tmp_path / "model", {}, dtype=torch.int8)
    for recipe in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(InvalidInputError, match="JSON"):
            export_checkpoint(base, layers, tmp_path / "model", recipe)
    assert names(tmp_path) == []


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_base_with_a_value_beyond_the_dtype_is_refused_and_one_with_nan_stays_as_it_is(
    copied: Path, tmp_path: Path, recipe: dict[str, Any], target: str, part: str
) -> None:
    (file,) = (copied / part).glob("*.safetensors")
    tensors = {name: tensor.float() for name, tensor in load_file(file).items()}
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name][0, 1] = 1e6
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InvalidInputError, match=r"1e\+06 do not fit into torch.float16"):
        export_checkpoint(copied, {}, tmp_path / target, recipe, dtype=torch.float16)
    assert names(tmp_path) == ["copied"]
    tensors[name][0, 1] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    export_checkpoint(copied, {}, tmp_path / target, recipe, dtype=torch.float16)
    found = compare_checkpoint(tmp_path / target, copied, {}, torch.float16)
    assert found.equal


def test_tensors_that_are_not_floating_keep_their_dtype(
    copied: Path, tmp_path: Path, layers: dict[str, Tensor], recipe: dict[str, Any]
) -> None:
    file = copied / "text_encoder" / "model.safetensors"
    positions = {"text_model.embeddings.position_ids": torch.arange(8)[None]}
    save_file(load_file(file) | positions, file, {"format": "pt"})
    target = tmp_path / "model.safetensors"
    export_checkpoint(copied, layers, target, recipe, dtype=torch.bfloat16)
    state = load_file(target)
    kept = state.pop("cond_stage_model.transformer.text_model.embeddings.position_ids")
    assert torch.equal(kept, torch.arange(8)[None])
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
