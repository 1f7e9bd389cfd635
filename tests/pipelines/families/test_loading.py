"""Which folders are loaded, in which forms, and which are refused and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from shiftreg import pipelines
from shiftreg.checkpoints import export_checkpoint, read_component
from shiftreg.errors import IncompatibleError, IntegrityError, InvalidInputError, ShiftregError
from shiftreg.pipelines.families import family_of, find_family

PROMPTS = ["a cat by ann", ""]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The base of each family in turn, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "base"))


def weights(pipeline: DiffusionPipeline) -> dict[str, torch.Tensor]:
    return dict(pipelines.network_of(pipeline).named_parameters())


def test_a_folder_of_variant_fp16_alone_is_loaded(folder: Path, tmp_path: Path) -> None:
    whole = pipelines.load_pipeline(folder)
    halved = pipelines.load_pipeline(folder, torch.float16)
    halved.save_pretrained(tmp_path / "half", variant="fp16")
    files = list((tmp_path / "half").rglob("*.safetensors"))
    assert files
    assert all(".fp16." in file.name for file in files)
    pipeline = pipelines.load_pipeline(pipelines.resolve_source(str(tmp_path / "half")))
    for name, value in weights(pipeline).items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights(whole)[name].half().float()), name
    embeds = [pipelines.encode_prompts(one, PROMPTS) for one in (whole, pipeline)]
    assert (embeds[1] - embeds[0]).norm() < 0.02 * embeds[0].norm()


def test_a_folder_of_shards_is_loaded(folder: Path, tmp_path: Path) -> None:
    whole = pipelines.load_pipeline(folder)
    whole.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert list((tmp_path / "shards").rglob("*.index.json"))
    pipeline = pipelines.load_pipeline(tmp_path / "shards")
    for name, value in weights(pipeline).items():
        assert torch.equal(value, weights(whole)[name]), name
    embeds = [pipelines.encode_prompts(one, PROMPTS) for one in (whole, pipeline)]
    assert torch.equal(*embeds)


def test_parts_in_two_precisions_beside_one_in_half_alone_are_refused(
    copied: Path, family: str
) -> None:
    network = "transformer" if family == "pixart-alpha" else "unet"
    own = copied / network / "diffusion_pytorch_model.safetensors"
    own.rename(own.with_name("diffusion_pytorch_model.fp16.safetensors"))
    pipelines.load_pipeline(copied)
    other = copied / "text_encoder" / "model.safetensors"
    shutil.copyfile(other, other.with_name("model.fp16.safetensors"))
    with pytest.raises(InvalidInputError, match=f"{network} in fp16 alone, and text_encoder"):
        pipelines.load_pipeline(copied)


def test_a_base_in_half_precision_generates(folder: Path) -> None:
    pipeline = pipelines.load_pipeline(folder, torch.bfloat16)
    generated = pipelines.generate(pipeline, ["a cat"], [0], steps=2, guidance=3.0)
    assert generated.shape == (1, 64, 64, 3)


def test_a_base_without_its_tokenizer_s_files_is_refused(copied: Path, family: str) -> None:
    for part in copied.glob("tokenizer*"):
        kept = [file for file in part.iterdir() if file.name != "tokenizer_config.json"]
        for file in kept:
            file.unlink()
    with pytest.raises(IntegrityError, match=r"cannot tell words apart.*Copy the whole"):
        pipelines.load_pipeline(copied)


def test_a_base_without_one_of_its_parts_is_refused(copied: Path, family: str) -> None:
    parts = find_family(copied).components
    assert len(parts) == (7 if family == "sdxl" else 5)
    shutil.rmtree(copied / parts[-1])
    with pytest.raises(IntegrityError, match=f"lacks {parts[-1]}"):
        pipelines.resolve_source(str(copied))


def test_a_tokenizer_of_another_base_is_refused(
    saved: Callable[[str], Path], copied: Path, family: str
) -> None:
    other = saved("pixart-alpha" if family in ("sd1", "sd2", "sdxl") else "sd1") / "tokenizer"
    shutil.rmtree(copied / "tokenizer")
    shutil.copytree(other, copied / "tokenizer")
    config = copied / "text_encoder" / "config.json"
    values = json.loads(config.read_text())
    state = load_file(copied / "text_encoder" / "model.safetensors")
    table = next(
        name for name in state if name.endswith(("token_embedding.weight", "shared.weight"))
    )
    state[table] = state[table][:3].clone()
    save_file(state, copied / "text_encoder" / "model.safetensors", {"format": "pt"})
    config.write_text(json.dumps({**values, "vocab_size": 3}))
    with pytest.raises(ShiftregError):
        pipelines.load_pipeline(copied)


def test_a_text_encoder_of_another_width_is_refused(
    saved: Callable[[str], Path], copied: Path, family: str
) -> None:
    if family == "pixart-alpha":
        from transformers import T5Config, T5EncoderModel

        config = T5Config.from_pretrained(copied / "text_encoder")
        config.d_model = 24
        T5EncoderModel(config).save_pretrained(copied / "text_encoder")
        expected = "reads embeddings of width 16, and the text encoder writes 24"
    else:
        other = saved("sdxl" if family != "sdxl" else "sd1")
        shutil.rmtree(copied / "text_encoder")
        shutil.copytree(other / "text_encoder", copied / "text_encoder")
        expected = r"read embeddings of width 96, and those of its text encoder have \d+"
    with pytest.raises(IncompatibleError, match=expected):
        pipelines.load_pipeline(copied)


def test_a_base_that_also_reads_a_image_is_refused(saved: Callable[[str], Path]) -> None:
    from diffusers import AutoencoderKL

    pipeline = pipelines.load_pipeline(saved("sd1"))
    from shiftreg.pipelines.load import _check

    pipeline.vae = AutoencoderKL.from_config(pipeline.vae.config, latent_channels=3)
    with pytest.raises(IncompatibleError, match="takes 4 channels, and latents have 3"):
        _check(family_of(pipeline), pipeline, Path("base"))


# What is refused by what it consists of.


def described(folder: Path, pipeline: str, **parts: list[str | None]) -> Path:
    folder.mkdir()
    index = {"_class_name": pipeline, "_diffusers_version": "0.42.0", **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


JOINT = {
    "StableDiffusion3Pipeline": "SD3Transformer2DModel",
    "FluxPipeline": "FluxTransformer2DModel",
    "AuraFlowPipeline": "AuraFlowTransformer2DModel",
}


@pytest.mark.parametrize("name", JOINT)
def test_joint_attention_models_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    folder = described(
        tmp_path / "base",
        name,
        transformer=["diffusers", JOINT[name]],
        text_encoder=["transformers", "CLIPTextModel"],
    )
    with pytest.raises(IncompatibleError, match=f"{JOINT[name]}.*depend on the image") as caught:
        pipelines.resolve_source(str(folder))
    assert "docs/families.md" in str(caught.value)


def test_a_joint_attention_model_with_its_configuration_is_refused(tmp_path: Path) -> None:
    folder = described(
        tmp_path / "base",
        "SomethingNewPipeline",
        transformer=["diffusers", "SomethingNewTransformer2DModel"],
        text_encoder=["transformers", "T5EncoderModel"],
    )
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text('{"joint_attention_dim": 4096}')
    with pytest.raises(IncompatibleError, match="joint attention"):
        pipelines.load_pipeline(folder)


@pytest.mark.parametrize(
    "parts",
    [
        {"unet": ["diffusers", "UNet2DModel"]},
        # SDXL's refiner has the second encoder alone.
        {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": [None, None]},
        {
            "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
            "text_encoder": ["transformers", "T5EncoderModel"],
        },
        {"prior": ["diffusers", "PriorTransformer"]},
    ],
)
def test_pipelines_of_other_kinds_are_refused(parts: dict[str, list[str]], tmp_path: Path) -> None:
    folder = described(tmp_path / "base", "OtherPipeline", **parts)
    with pytest.raises(IncompatibleError, match=r"OtherPipeline is not a pipeline.*PixArt"):
        pipelines.resolve_source(str(folder))


@pytest.mark.parametrize("text", ["[]", "{", '{"unet": 3}'])
def test_a_damaged_index_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ShiftregError):
        pipelines.resolve_source(str(tmp_path))


def test_a_transformer_has_no_single_file(saved: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Export a folder instead"):
        export_checkpoint(saved("pixart-alpha"), {}, tmp_path / "model.safetensors", {})
    assert read_component(saved("pixart-alpha") / "transformer")
