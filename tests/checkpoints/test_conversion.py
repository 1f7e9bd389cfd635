"""Single files in: what they hold, found and written as the folder that they were made from."""

from __future__ import annotations

import json
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import (
    compare_checkpoint,
    export_checkpoint,
    folder_digest,
    read_component,
    read_origin,
    single_file_contents,
    sort_single_file,
    write_base,
)
from shiftreg.errors import (
    AlreadyExistsError,
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from shiftreg.pipelines import weight_shapes
from tests.whole import read_checkpoint, single_file_state

FAMILIES = ["base", "stable_diffusion_base", "base_2", "base_xl"]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def convert(file: Path, config: Path, target: Path, *, ema: bool = False) -> Path:
    tensors = single_file_contents(file)
    found = sort_single_file(file, tensors, weight_shapes(config), config, ema=ema)
    write_base(found, config, target, {"file": file.name}, lambda _done, _total: None)
    return target


def without_weights(folder: Path, target: Path) -> Path:
    """What --config needs: configurations and tokenizers."""
    return Path(
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    )


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_single_file_becomes_the_folder_that_it_was_made_from(
    folder: Path, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"model.{suffix}"
    export_checkpoint(folder, {}, file, {})
    config = without_weights(folder, tmp_path / "config")
    made = convert(file, config, tmp_path / "made")
    for component in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if not (folder / component).is_dir():
            assert not (made / component).exists()
            continue
        expected = read_component(folder / component)
        if component.startswith("text_encoder"):
            expected = {
                name if name.startswith("text_") else f"text_model.{name}": tensor
                for name, tensor in expected.items()
            }
        assert_same(read_component(made / component), expected)
    # And back again, bit for bit.
    export_checkpoint(made, {}, tmp_path / f"again.{suffix}", {})
    assert_same(read_checkpoint(tmp_path / f"again.{suffix}"), read_checkpoint(file))
    assert compare_checkpoint(file, made, {}).equal
    assert read_origin(made) == {"file": file.name}


def test_diffusers_loads_what_was_made_as_it_loads_the_base(folder: Path, tmp_path: Path) -> None:
    export_checkpoint(folder, {}, tmp_path / "model.ckpt", {})
    made = convert(tmp_path / "model.ckpt", folder, tmp_path / "made")
    pipelines = [DiffusionPipeline.from_pretrained(path) for path in (folder, made)]
    assert type(pipelines[0]) is type(pipelines[1])
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(pipelines[0], part):
            one, other = (getattr(pipeline, part).state_dict() for pipeline in pipelines)
            assert_same(one, other)
    assert pipelines[0].tokenizer.get_vocab() == pipelines[1].tokenizer.get_vocab()


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("name", ["base_2", "base_xl"])
def test_diffusers_reads_the_single_files_of_other_families_back(
    name: str, tmp_path: Path, request: pytest.FixtureRequest, suffix: str
) -> None:
    folder, file = request.getfixturevalue(name), tmp_path / f"model.{suffix}"
    export_checkpoint(folder, {}, file, {})
    kind = StableDiffusionXLPipeline if name == "base_xl" else StableDiffusionPipeline
    config = without_weights(folder, tmp_path / "config")
    options: dict[str, Any] = {"dtype": torch.float16, "local_files_only": True}
    options |= {} if name == "base_xl" else {"safety_checker": None}
    loaded = kind.from_single_file(file, config=str(config), **options)
    original = kind.from_pretrained(folder, dtype=torch.float16)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(original, part):
            state = getattr(original, part).state_dict()
            assert_same(getattr(loaded, part).state_dict(), state)


# What a file of Lightning's holds beside the weights.
def leftovers(state: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": OrderedDict(state),
        "callbacks": {Lightning: {"best": torch.tensor(1.5), "dirpath": Path("/logs")}},
        "optimizer_states": [{"state": {0: {"step": 9, "exp_avg": torch.zeros(3)}}}],
        "lr_schedulers": [Lightning()],
        "hyper_parameters": {"nested": Lightning(), "rates": {1e-4, 1e-5}},
    }


class Lightning:
    """Stands for a class of a library that a reader does not have."""

    def __init__(self) -> None:
        self.weights = {"x": [1, 2]}


Lightning.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
Lightning.__qualname__ = "ModelCheckpoint"
EXTRAS = {
    "alphas_cumprod": torch.ones(10),
    "denoiser.sigmas": torch.ones(10),
    "model_ema.decay": torch.tensor(0.9999),
    "model_ema.num_updates": torch.tensor(7),
    "first_stage_model.loss.discriminator.main.0.bias": torch.ones(2),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(4)[None],
    "cond_stage_model.logit_scale": torch.tensor(1.0),
    "control_model.time_embed.0.weight": torch.ones(2, 2),
}


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pickle write the class; nobody needs it to read."""
    import sys
    import types

    module = types.ModuleType(Lightning.__module__)
    module.ModelCheckpoint = Lightning  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, Lightning.__module__, module)
    for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that training gives to averaged weights, in single precision."""
    return {
        "model_ema." + key.removeprefix("model.").replace(".", ""): tensor.float() + 1
        for key, tensor in state.items()
        if key.startswith("model.diffusion_model.")
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_the_weights_of_a_training_checkpoint_are_found_among_its_leftovers(
    base: Path, tmp_path: Path, lightning: None, zipped: bool
) -> None:
    state, file = single_file_state(base, {}), tmp_path / "training.ckpt"
    content = leftovers(state | EXTRAS | averaged(state))
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    found = sort_single_file(file, single_file_contents(file), weight_shapes(base), base)
    assert found.averaged == len(averaged(state)) + 2
    assert set(found.left_out) == {key for key in EXTRAS if not key.startswith("model_ema.")}
    made = convert(file, base, tmp_path / "made")
    assert_same(single_file_state(made, {}), state)


def test_averaged_weights_are_taken_where_they_are_asked_for(base: Path, tmp_path: Path) -> None:
    state = single_file_state(base, {})
    save_file(state | averaged(state), tmp_path / "both.safetensors")
    made = convert(tmp_path / "both.safetensors", base, tmp_path / "made", ema=True)
    plain, chosen = read_component(base / "unet"), read_component(made / "unet")
    assert all(torch.equal(chosen[name], plain[name].float() + 1) for name in plain)
    assert_same(read_component(made / "vae"), read_component(base / "vae"))
    save_file(state, tmp_path / "plain.safetensors")
    with pytest.raises(InvalidInputError, match="no averaged weights"):
        convert(tmp_path / "plain.safetensors", base, tmp_path / "other", ema=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_every_tensor_keeps_its_dtype(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in single_file_state(base, {}).items()}
    some = next(iter(state))
    state[some] = state[some].double()
    torch.save(state, tmp_path / "bare.ckpt")
    made = convert(tmp_path / "bare.ckpt", base, tmp_path / "made")
    assert_same(single_file_state(made, {}), state)
    config = json.loads((made / "text_encoder" / "config.json").read_text())
    loaded = DiffusionPipeline.from_pretrained(made)
    assert config["dtype"] == str(loaded.text_encoder.dtype).removeprefix("torch.")


def test_the_last_layer_that_stable_diffusion_2_does_not_run_is_left_out(
    base_2: Path, tmp_path: Path
) -> None:
    state = single_file_state(base_2, {})
    prefix = "cond_stage_model.model."
    last = {
        key.replace("resblocks.1.", "resblocks.2."): tensor + 1
        for key, tensor in state.items()
        if "resblocks.1." in key
    }
    last |= {f"{prefix}text_projection": torch.ones(4, 4), f"{prefix}logit_scale": torch.ones(())}
    save_file(state | last, tmp_path / "full.safetensors")
    made = convert(tmp_path / "full.safetensors", base_2, tmp_path / "made")
    assert_same(single_file_state(made, {}), state)


@pytest.mark.parametrize(("mine", "other"), [("base", "stable_diffusion_base"),
                                             ("base_2", "stable_diffusion_base"),
                                             ("stable_diffusion_base", "base_2"),
                                             ("stable_diffusion_base", "base_xl"),
                                             ("base_xl", "base_2")])  # fmt: skip
def test_a_configuration_of_another_architecture_is_refused(
    mine: str, other: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "model.safetensors"
    export_checkpoint(request.getfixturevalue(mine), {}, file, {})
    with pytest.raises(IncompatibleError, match=r"another architecture.*--config FOLDER"):
        convert(file, request.getfixturevalue(other), tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda state: state.popitem(), IncompatibleError, "in the file it is missing"),
        (
            lambda state: state.update({"model.diffusion_model.out.2.bias": torch.ones(5)}),
            IncompatibleError,
            r"has shape \(4,\), and in the file it has shape \(5,\)",
        ),
        (
            lambda state: state.update({"model.diffusion_model.extra": torch.ones(5)}),
            IncompatibleError,
            "there is no 'model.diffusion_model.extra'",
        ),
        (
            lambda state: state.update(
                {"model.diffusion_model.out.2.bias": torch.ones(4, dtype=torch.int8)}
            ),
            InvalidInputError,
            "holds int8",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    base: Path, tmp_path: Path, change: Any, error: type[Exception], words: str
) -> None:
    state = single_file_state(base, {})
    change(state)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(error, match=words):
        convert(tmp_path / "odd.safetensors", base, tmp_path / "made")


def test_parts_that_the_file_lacks_are_taken_out_of_the_pipeline(
    base: Path, tmp_path: Path
) -> None:
    config = without_weights(base, tmp_path / "config")
    index = json.loads((config / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (config / "model_index.json").write_text(json.dumps(index))
    for part, name in (("safety_checker", "config.json"), ("feature_extractor", "x.json")):
        (config / part).mkdir()
        (config / part / name).write_text("{}")
    export_checkpoint(base, {}, tmp_path / "model.ckpt", {})
    made = convert(tmp_path / "model.ckpt", config, tmp_path / "made")
    index = json.loads((made / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is False
    assert (made / "feature_extractor" / "x.json").is_file()
    assert not (made / "safety_checker").exists()


def test_a_configuration_without_a_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    config = without_weights(base, tmp_path / "config")
    shutil.rmtree(config / "tokenizer")
    export_checkpoint(base, {}, tmp_path / "model.ckpt", {})
    with pytest.raises(InvalidInputError, match="no tokenizer"):
        convert(tmp_path / "model.ckpt", config, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_same_file_gives_the_same_folder_and_never_over_another(
    base: Path, tmp_path: Path
) -> None:
    export_checkpoint(base, {}, tmp_path / "model.ckpt", {})
    made = [convert(tmp_path / "model.ckpt", base, tmp_path / name) for name in ("one", "two")]
    assert folder_digest(made[0]) == folder_digest(made[1])
    with pytest.raises(AlreadyExistsError):
        convert(tmp_path / "model.ckpt", base, tmp_path / "one")


def test_a_full_disk_leaves_nothing(base: Path, tmp_path: Path, small_disk: Path) -> None:
    export_checkpoint(base, {}, tmp_path / "model.ckpt", {})
    with pytest.raises(StorageError, match="No space"):
        convert(tmp_path / "model.ckpt", base, small_disk / "made")
    assert list(small_disk.iterdir()) == []


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"ends in '\.bin'"):
        single_file_contents(tmp_path / "model.bin")
    for suffix in ("ckpt", "safetensors"):
        with pytest.raises(NotFoundError):
            single_file_contents(tmp_path / f"none.{suffix}")
        (tmp_path / f"bad.{suffix}").write_bytes(b"nothing of that kind")
        with pytest.raises(IntegrityError):
            single_file_contents(tmp_path / f"bad.{suffix}")
    save_file({"x": torch.ones(1)}, tmp_path / "lora.safetensors")
    assert load_file(tmp_path / "lora.safetensors")
