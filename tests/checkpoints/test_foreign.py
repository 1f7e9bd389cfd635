"""Which base a file was made for, by its own words."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from shiftreg.checkpoints import (
    StatedBase,
    WeightChange,
    export_checkpoint,
    file_digest,
    folder_digest,
    read_foreign,
    save_shift,
)
from shiftreg.checkpoints.base_folder import read_component, read_config
from shiftreg.checkpoints.compvis import UNET_PREFIX, unet_key
from shiftreg.errors import (
    IncompatibleError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from shiftreg.shift import ConceptShift
from tests.tiny import LAYER, WIDTH
from tests.whole import single_file_state

TO_K = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
WEIGHT = f"{TO_K}.weight"
COMPVIS_WEIGHT = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
BIAS = "conv_in.bias"
# A power of two: added to half-precision weights near one, it is rounded the same everywhere.
STEP = 0.25


def changed(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a UNet of which two parameters were trained."""
    return {**unet, WEIGHT: unet[WEIGHT] + STEP, BIAS: unet[BIAS] - STEP}


def expected(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    new = changed(unet)
    return {name: (new[name].double() - unet[name].double()).float() for name in (WEIGHT, BIAS)}


def assert_deltas(change: WeightChange, deltas: Mapping[str, Tensor]) -> None:
    assert change.deltas.keys() == deltas.keys()
    for name, delta in change.deltas.items():
        assert delta.dtype == torch.float32
        assert torch.equal(delta, deltas[name]), name


def save_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)


Write = Callable[[Mapping[str, Tensor], Path], None]
WRITERS: dict[str, Write] = {
    ".safetensors": save_safetensors,
    ".pt": lambda tensors, path: torch.save(dict(tensors), path),
    ".pth": lambda tensors, path: torch.save({"model": dict(tensors), "epoch": 3}, path),
    ".bin": lambda tensors, path: torch.save(
        {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}, path
    ),
    ".ckpt": lambda tensors, path: torch.save(
        {
            "state_dict": dict(tensors),
            "global_step": 1000,
            "pytorch-lightning_version": "1.4.2",
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
            "callbacks": {"ModelCheckpoint": {"best": None}},
        },
        path,
    ),
}
Read = Callable[..., WeightChange]


@pytest.fixture
def read(tmp_path: Path, stable_diffusion_base: Path) -> Read:
    """Saves tensors and reads them as a change of the base."""

    def save_and_read(
        tensors: Mapping[str, Tensor], suffix: str = ".safetensors", **options: Any
    ) -> WeightChange:
        path = tmp_path / f"foreign{suffix}"
        WRITERS[suffix](tensors, path)
        return read_foreign(path, stable_diffusion_base, **options)

    return save_and_read


# State dicts


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("prefix", ["", "unet."])
def test_a_part_of_a_unet_is_subtracted_from_every_container(
    read: Read, unet: dict[str, Tensor], suffix: str, prefix: str, tmp_path: Path
) -> None:
    part = {prefix + name: changed(unet)[name] for name in (WEIGHT, BIAS, "conv_in.weight")}
    change = read(part, suffix)
    assert change.form == "partial state dict"
    assert_deltas(change, expected(unet))
    assert change.digest == file_digest(tmp_path / f"foreign{suffix}")
    assert change.left_out == ()
    assert change.details["unet_keys"] == 3
    assert change.details["dtype"] == "float16"
    json.dumps(change.details)


def test_a_part_with_compvis_names_is_read(read: Read, unet: dict[str, Tensor]) -> None:
    change = read({COMPVIS_WEIGHT: changed(unet)[WEIGHT]}, ".ckpt")
    assert_deltas(change, {WEIGHT: expected(unet)[WEIGHT]})
    assert change.form == "partial state dict"


def test_a_whole_unet_is_a_checkpoint(read: Read, unet: dict[str, Tensor]) -> None:
    change = read(changed(unet))
    assert change.form == "checkpoint"
    assert_deltas(change, expected(unet))
    assert change.details["median_similarity"] == pytest.approx(1)


def test_state_dicts_nested_by_module_are_read(
    tmp_path: Path, unet: dict[str, Tensor], stable_diffusion_base: Path
) -> None:
    new = changed(unet)
    conv_in = {name: new[f"conv_in.{name}"] for name in ("weight", "bias")}
    for content in (
        {f"unet.{TO_K}": {"weight": new[WEIGHT]}, "unet.conv_in": conv_in},
        {"unet": {WEIGHT: new[WEIGHT], BIAS: new[BIAS]}, "note": "any text"},
    ):
        torch.save(content, tmp_path / "esd.pt")
        assert_deltas(read_foreign(tmp_path / "esd.pt", stable_diffusion_base), expected(unet))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_that_another_precision_rounded_are_unchanged(
    read: Read, unet: dict[str, Tensor], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(7)
    cast = {name: tensor.to(dtype) for name, tensor in unet.items()}
    noise = torch.randn(unet[WEIGHT].shape, generator=generator)
    cast[WEIGHT] = (cast[WEIGHT].float() + noise).to(dtype)
    change = read(cast)
    reference = unet[WEIGHT].to(dtype).double()
    assert_deltas(change, {WEIGHT: (cast[WEIGHT].double() - reference).float()})


def test_a_base_that_is_itself_rounded_finds_the_original_unchanged(
    read: Read, unet: dict[str, Tensor]
) -> None:
    # What the half-precision base may have been made from: within half a step of rounding.
    original = {name: tensor.double() * (1 + 2.0**-13) for name, tensor in unet.items()}
    original = {name: tensor.float() for name, tensor in original.items()}
    assert all(torch.equal(original[name].half(), unet[name]) for name in unet)
    original[WEIGHT] = unet[WEIGHT].float() + STEP
    change = read(original)
    assert change.deltas.keys() == {WEIGHT}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_base_in_single_precision_is_rounded_before_it_is_compared(
    tmp_path: Path, stable_diffusion_base: Path, dtype: torch.dtype
) -> None:
    base = tmp_path / "base"
    pipeline = StableDiffusionPipeline.from_pretrained(stable_diffusion_base)
    generator = torch.Generator().manual_seed(8)
    for parameter in pipeline.unet.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    pipeline.save_pretrained(base)
    unet = read_component(base / "unet")
    assert unet[WEIGHT].dtype == torch.float32
    rounded = {name: tensor.to(dtype) for name, tensor in unet.items()}
    new = (rounded[WEIGHT].float() + STEP).to(dtype)
    save_safetensors({**rounded, WEIGHT: new}, tmp_path / "new.safetensors")
    change = read_foreign(tmp_path / "new.safetensors", base)
    assert_deltas(change, {WEIGHT: (new.double() - rounded[WEIGHT].double()).float()})
    save_safetensors(rounded, tmp_path / "same.safetensors")
    with pytest.raises(InvalidInputError, match="base itself"):
        read_foreign(tmp_path / "same.safetensors", base)


@pytest.mark.parametrize("name", ["merged.ckpt", "merged"])
def test_every_part_of_a_base_in_single_precision_is_rounded_before_it_is_compared(
    tmp_path: Path, stable_diffusion_base: Path, name: str
) -> None:
    base = tmp_path / "base"
    pipeline = StableDiffusionPipeline.from_pretrained(stable_diffusion_base)
    generator = torch.Generator().manual_seed(10)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        for parameter in part.parameters():
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    pipeline.save_pretrained(base)
    weight = read_component(base / "unet")[WEIGHT] + STEP
    export_checkpoint(base, {TO_K: weight}, tmp_path / name, {}, dtype=torch.float16)
    change = read_foreign(tmp_path / name, base)
    assert change.deltas.keys() == {WEIGHT}
    assert change.left_out == ()


def test_a_linear_layer_may_be_saved_as_a_convolution(read: Read, unet: dict[str, Tensor]) -> None:
    change = read({WEIGHT: changed(unet)[WEIGHT][:, :, None, None]})
    assert_deltas(change, {WEIGHT: expected(unet)[WEIGHT]})


# Checkpoints


@pytest.mark.parametrize("name", ["merged.ckpt", "merged.safetensors", "merged"])
def test_every_form_that_is_exported_is_read_back(
    tmp_path: Path, stable_diffusion_base: Path, unet: dict[str, Tensor], name: str
) -> None:
    weight = unet[WEIGHT].float() + STEP
    target = tmp_path / name
    export_checkpoint(stable_diffusion_base, {TO_K: weight}, target, {})
    change = read_foreign(target, stable_diffusion_base)
    assert change.form == "checkpoint"
    assert_deltas(change, {WEIGHT: expected(unet)[WEIGHT]})
    assert change.left_out == ()
    digest = folder_digest(target) if target.is_dir() else file_digest(target)
    assert change.digest == digest


@pytest.fixture
def compvis(stable_diffusion_base: Path, unet: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole checkpoint with the leftovers of training, of which two parameters were trained."""
    state = single_file_state(stable_diffusion_base, {})
    config = read_config(stable_diffusion_base / "unet")
    state |= {UNET_PREFIX + unet_key(name, config): t for name, t in changed(unet).items()}
    state |= {
        name: torch.rand(10)
        for name in (
            "betas",
            "alphas_cumprod",
            "alphas_cumprod_prev",
            "sqrt_alphas_cumprod",
            "sqrt_one_minus_alphas_cumprod",
            "log_one_minus_alphas_cumprod",
            "sqrt_recip_alphas_cumprod",
            "sqrt_recipm1_alphas_cumprod",
            "posterior_variance",
            "posterior_log_variance_clipped",
            "posterior_mean_coef1",
            "lvlb_weights",
            "logvar",
            "scale_factor",
            "denoiser.sigmas",
        )
    }
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(64)
    return state


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_what_training_leaves_in_a_checkpoint_is_ignored(
    read: Read, compvis: dict[str, Tensor], unet: dict[str, Tensor], suffix: str
) -> None:
    change = read(compvis, suffix)
    assert change.form == "checkpoint"
    assert_deltas(change, expected(unet))
    assert change.left_out == ()
    averaged = {
        "model_ema.diffusion_modelinput_blocks00weight": torch.rand(4),
        "model_ema.decay": torch.tensor(0.99),
        "model_ema.num_updates": torch.tensor(5),
    }
    change = read(compvis | averaged, suffix)
    assert_deltas(change, expected(unet))
    assert change.left_out == ("3 averaged weights (model_ema.*) were left out.",)


def test_a_checkpoint_in_single_precision_is_of_the_same_base(
    read: Read, compvis: dict[str, Tensor], unet: dict[str, Tensor]
) -> None:
    single = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in compvis.items()
    }
    assert_deltas(read(single), expected(unet))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("first_stage_model.decoder.mid.attn_1.q.weight", "autoencoder"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "text encoder"),
    ],
)
def test_other_parts_than_the_bases_are_refused_or_left_out_and_said(
    read: Read, compvis: dict[str, Tensor], unet: dict[str, Tensor], name: str, words: str
) -> None:
    compvis[name] = compvis[name] + 1
    with pytest.raises(IncompatibleError, match=f"another {words} .*'{name}'.*--unet-only"):
        read(compvis)
    change = read(compvis, unet_only=True)
    assert_deltas(change, expected(unet))
    (sentence,) = change.left_out
    assert words in sentence
    assert name in sentence


@pytest.mark.parametrize(
    "name",
    [
        "first_stage_model.encoder.novel.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.30.mlp.fc1.weight",
        "cond_stage_model.model.transformer.resblocks.0.ln_1.weight",
        "text_encoder_2.text_projection.weight",
        "vae.encoder.novel.weight",
    ],
)
def test_parts_that_the_base_lacks_are_another_bases(
    read: Read, compvis: dict[str, Tensor], name: str
) -> None:
    with pytest.raises(IncompatibleError, match="made from another base"):
        read(compvis | {name: torch.ones(2)})


def test_a_pipeline_and_its_unet_alone_are_read(
    tmp_path: Path, stable_diffusion_base: Path, unet: dict[str, Tensor]
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(stable_diffusion_base)
    pipeline.unet.load_state_dict(changed(unet))
    pipeline.to(torch.float16).save_pretrained(tmp_path / "new")
    for folder in (tmp_path / "new", tmp_path / "new" / "unet"):
        change = read_foreign(folder, stable_diffusion_base)
        assert change.form == "checkpoint"
        assert_deltas(change, expected(unet))
    pipeline.unet.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert (tmp_path / "pickled" / "diffusion_pytorch_model.bin").is_file()
    assert_deltas(read_foreign(tmp_path / "pickled", stable_diffusion_base), expected(unet))


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_pipeline_with_another_part_is_refused_or_left_out_and_said(
    tmp_path: Path, stable_diffusion_base: Path, unet: dict[str, Tensor], part: str
) -> None:
    new = tmp_path / "new"
    shutil.copytree(stable_diffusion_base, new)
    save_safetensors(changed(unet), new / "unet" / "diffusion_pytorch_model.safetensors")
    (file,) = (new / part).glob("*.safetensors")
    tensors = load_file(file)
    name = min(tensors)
    save_safetensors({**tensors, name: tensors[name] + 1}, file)
    with pytest.raises(IncompatibleError, match=rf"'{part}\.{name}'"):
        read_foreign(new, stable_diffusion_base)
    change = read_foreign(new, stable_diffusion_base, unet_only=True)
    assert_deltas(change, expected(unet))
    assert len(change.left_out) == 1


@pytest.mark.parametrize("structure", ["base", "stable_diffusion_base"])
def test_the_base_itself_changes_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, structure: str
) -> None:
    folder = request.getfixturevalue(structure)
    export_checkpoint(folder, {}, tmp_path / "same.ckpt", {})
    for path in (folder, folder / "unet", tmp_path / "same.ckpt"):
        with pytest.raises(InvalidInputError, match="base itself"):
            read_foreign(path, folder)


# Another base


def test_a_checkpoint_of_another_training_is_refused(
    tmp_path: Path, stable_diffusion_base: Path
) -> None:
    torch.manual_seed(9)
    config = read_config(stable_diffusion_base / "unet")
    other = UNet2DConditionModel.from_config(config)
    # Norms are alike in every UNet, and so are biases after a few steps; kernels are not.
    other.half().save_pretrained(tmp_path / "other")
    with pytest.raises(IncompatibleError, match=r"similarity is -?0\.0\d, below 0\.1"):
        read_foreign(tmp_path / "other", stable_diffusion_base)


def test_another_structure_is_refused_by_the_first_name(
    base: Path, stable_diffusion_base: Path
) -> None:
    with pytest.raises(IncompatibleError, match=r"no tensor 'unet\..*with shape \("):
        read_foreign(stable_diffusion_base, base)


@pytest.mark.parametrize(
    ("name", "shape", "architecture"),
    [
        (WEIGHT, (8, 1024), "Stable Diffusion 2.x"),
        (WEIGHT, (9, 8), ""),
        (WEIGHT, (8, 8, 3, 3), ""),
        (WEIGHT, (64,), ""),
        (BIAS, (3,), ""),
        (BIAS, (), ""),
    ],
)
def test_another_shape_is_refused_with_both(
    read: Read, unet: dict[str, Tensor], name: str, shape: tuple[int, ...], architecture: str
) -> None:
    with pytest.raises(IncompatibleError) as caught:
        read({name: torch.ones(shape)})
    message = str(caught.value)
    for part in (f"'{name}'", str(tuple(unet[name].shape)), str(shape), architecture):
        assert part in message


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.label_emb.0.0.weight",
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight",
        "add_embedding.linear_1.weight",
    ],
)
def test_the_architecture_of_another_model_is_guessed(read: Read, name: str) -> None:
    with pytest.raises(IncompatibleError, match="probably made for Stable Diffusion XL"):
        read({name: torch.ones(2, 2)})


# Malformed files


@pytest.mark.parametrize("name", ["x", "encoder.layer.0.weight", "model.layers.0.mlp.weight"])
def test_a_tensor_of_something_else_is_refused_by_name(
    read: Read, unet: dict[str, Tensor], name: str
) -> None:
    for tensors in ({name: torch.ones(2)}, {**changed(unet), name: torch.ones(2)}):
        with pytest.raises(InvalidInputError, match=f"'{name}'"):
            read(tensors)


def test_parts_without_a_unet_change_nothing(read: Read, compvis: dict[str, Tensor]) -> None:
    vae = {name: t for name, t in compvis.items() if name.startswith("first_stage_model.")}
    with pytest.raises(InvalidInputError, match="holds nothing of one"):
        read(vae)


def test_mixed_spellings_are_refused(read: Read, unet: dict[str, Tensor]) -> None:
    new = changed(unet)
    for one, other in (
        (COMPVIS_WEIGHT, BIAS),
        (COMPVIS_WEIGHT, f"unet.{BIAS}"),
        (WEIGHT, f"unet.{BIAS}"),
    ):
        with pytest.raises(InvalidInputError, match="mixes"):
            read({one: new[WEIGHT], other: new[BIAS]})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_that_are_not_finite_are_refused_by_name(
    read: Read, unet: dict[str, Tensor], value: float, suffix: str
) -> None:
    new = changed(unet)
    new[WEIGHT][1, 1] = value
    with pytest.raises(InvalidInputError, match=f"'{WEIGHT}' holds NaN or infinity"):
        read(new, suffix)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_other_numbers_than_floating_ones_are_no_weights(
    read: Read, unet: dict[str, Tensor], dtype: torch.dtype
) -> None:
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(InvalidInputError, match=f"'{WEIGHT}' holds {kind}"):
        read({WEIGHT: unet[WEIGHT].to(dtype)})


def test_weights_of_eight_bits_are_read(read: Read, unet: dict[str, Tensor]) -> None:
    new = changed(unet)[WEIGHT].to(torch.float8_e4m3fn)
    reference = unet[WEIGHT].to(torch.float8_e4m3fn)
    change = read({WEIGHT: new})
    assert_deltas(change, {WEIGHT: (new.double() - reference.double()).float()})


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_without_a_tensor_is_refused(read: Read, suffix: str) -> None:
    with pytest.raises(InvalidInputError, match="holds no tensor"):
        read({}, suffix)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
def test_truncated_files_are_refused(
    read: Read,
    unet: dict[str, Tensor],
    tmp_path: Path,
    stable_diffusion_base: Path,
    suffix: str,
) -> None:
    read(changed(unet), suffix)
    path = tmp_path / f"foreign{suffix}"
    content = path.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(IntegrityError, match="foreign"):
            read_foreign(path, stable_diffusion_base)


class Malicious:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_code_in_a_pickle_is_never_run(
    unet: dict[str, Tensor], tmp_path: Path, stable_diffusion_base: Path, suffix: str
) -> None:
    path, victim = tmp_path / f"bad{suffix}", tmp_path / "victim"
    torch.save({"state_dict": changed(unet), "callbacks": Malicious(victim)}, path)
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        read_foreign(path, stable_diffusion_base)
    assert not victim.exists()


@pytest.mark.filterwarnings("ignore:Validating sparse tensor", "ignore:TypedStorage")
def test_pickles_of_other_things_than_tensors_are_refused(
    unet: dict[str, Tensor], tmp_path: Path, stable_diffusion_base: Path
) -> None:
    path = tmp_path / "bad.pt"
    endless: dict[str, Any] = {}
    endless["again"] = endless
    for content in (
        {WEIGHT: [1.0, 2.0]},
        {WEIGHT: unet[WEIGHT].to_sparse()},
        {WEIGHT: torch.empty(8, 8, device="meta")},
        {3: unet[WEIGHT]},
        endless,
    ):
        torch.save(content, path)
        with pytest.raises(IntegrityError, match=r"bad\.pt"):
            read_foreign(path, stable_diffusion_base)
    torch.save({"unet": {WEIGHT: unet[WEIGHT]}, f"unet.{WEIGHT}": unet[WEIGHT]}, path)
    with pytest.raises(InvalidInputError, match="twice"):
        read_foreign(path, stable_diffusion_base)


def test_what_is_not_there_is_named(tmp_path: Path, stable_diffusion_base: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.pt"):
        read_foreign(tmp_path / "none.pt", stable_diffusion_base)
    (tmp_path / "x.pt").touch()
    with pytest.raises(NotFoundError, match="base"):
        read_foreign(tmp_path / "x.pt", tmp_path / "base")


@pytest.mark.parametrize("name", ["weights", "weights.gguf", "weights.txt"])
def test_other_kinds_of_files_are_refused(
    tmp_path: Path, stable_diffusion_base: Path, name: str
) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(InvalidInputError, match=r"\.safetensors, \.ckpt"):
        read_foreign(tmp_path / name, stable_diffusion_base)


def test_a_folder_of_something_else_is_refused(tmp_path: Path, stable_diffusion_base: Path) -> None:
    with pytest.raises(InvalidInputError, match="nor a LoRA"):
        read_foreign(tmp_path, stable_diffusion_base)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="no weights"):
        read_foreign(tmp_path, stable_diffusion_base)


def test_a_shift_of_this_package_is_no_foreign_file(
    tmp_path: Path, shift: ConceptShift, stable_diffusion_base: Path
) -> None:
    save_shift(shift, tmp_path / "shift.safetensors")
    with pytest.raises(InvalidInputError, match="shiftreg saved"):
        read_foreign(tmp_path / "shift.safetensors", stable_diffusion_base)


def test_nothing_is_written_and_the_deltas_are_copies(
    read: Read, unet: dict[str, Tensor], tmp_path: Path, stable_diffusion_base: Path
) -> None:
    before = folder_digest(stable_diffusion_base)
    change = read({WEIGHT: changed(unet)[WEIGHT].float()})
    content = (tmp_path / "foreign.safetensors").read_bytes()
    change.deltas[WEIGHT].zero_()
    assert (tmp_path / "foreign.safetensors").read_bytes() == content
    assert folder_digest(stable_diffusion_base) == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.safetensors"]


@pytest.mark.parametrize("name", ["base_2", "base_xl"])
def test_single_files_of_other_families_are_compared_part_by_part(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, file = request.getfixturevalue(name), tmp_path / "tuned.safetensors"
    state = single_file_state(folder, {})
    weight = next(key for key in state if key.endswith("attn2.to_k.weight"))
    state[weight] = state[weight] * 2
    # Of the whole encoder, Stable Diffusion 2 has no use for the last layer and the projection.
    unused = {"cond_stage_model.model.text_projection": torch.ones(2, 2)}
    save_file(state | (unused if name == "base_2" else {}), file)
    (delta,) = read_foreign(file, folder).deltas.values()
    assert torch.equal(delta, state[weight].float() / 2)
    joined = [key for key in state if key.endswith("attn.in_proj_bias")][-1]
    state[joined] = state[joined] + 1
    save_file(state, file)
    words = "second text encoder" if name == "base_xl" else "text encoder"
    with pytest.raises(IncompatibleError, match=f"another {words} than the base \\('{joined}'\\)"):
        read_foreign(file, folder)
    assert len(read_foreign(file, folder, unet_only=True).deltas) == 1


def check(
    metadata: dict[str, str], *, digest: str = "a" * 64, kohya_version: str = "sd_v1"
) -> None:
    StatedBase.of(metadata).check("'x.safetensors'", "mine", digest, kohya_version)


def test_a_file_of_this_base_or_that_says_nothing_passes() -> None:
    check({})
    check({"shiftreg.base_sha256": "a" * 64, "ss_base_model_version": "sd_v1"})
    check({"ss_base_model_version": "sd_v1"}, kohya_version="")  # a base of no known release


def test_a_digest_of_another_base_is_refused_with_both() -> None:
    with pytest.raises(IncompatibleError, match=r"for base b{12}, and 'mine' is a{12}\. .*--base"):
        check({"shiftreg.base_sha256": "b" * 64})


@pytest.mark.parametrize(
    ("stated", "own"),
    [
        ("sdxl_base_v1-0", "sd_v1"),
        ("sd_v1", "sdxl_base_v1-0"),
        ("sd_v1", "sd_v2_v"),
        ("flux1", "sd_v2"),
        ("sd3", "sdxl_base_v1-0"),
    ],
)
def test_a_version_of_another_family_is_refused_with_the_remedy(stated: str, own: str) -> None:
    with pytest.raises(IncompatibleError, match=rf"version is '{stated}'.*'mine' is .*--base"):
        check({"ss_base_model_version": stated}, kohya_version=own)


@pytest.mark.parametrize(
    ("stated", "own"), [("sd_v2", "sd_v2_v"), ("", "sd_v1"), ("somebody's own", "sd_v1")]
)
def test_versions_of_one_family_and_unknown_ones_pass(stated: str, own: str) -> None:
    check({"ss_base_model_version": stated}, kohya_version=own)


def test_what_a_header_says_comes_with_the_change(
    tmp_path: Path, stable_diffusion_base: Path
) -> None:
    header = {"shiftreg.base_sha256": "b" * 64, "ss_base_model_version": "sdxl_base_v1-0"}
    key = f"unet.{LAYER}"
    pair = {f"{key}.lora_A.weight": torch.ones(1, WIDTH), f"{key}.lora_B.weight": torch.ones(8, 1)}
    file = tmp_path / "lora.safetensors"
    save_file(pair, file, header)
    stated = read_foreign(file, stable_diffusion_base).stated_base
    assert stated == StatedBase("b" * 64, "sdxl_base_v1-0")
    save_file(pair, file)
    assert read_foreign(file, stable_diffusion_base).stated_base == StatedBase()
