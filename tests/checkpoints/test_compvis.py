from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from shiftreg import families
from shiftreg.checkpoints.base_folder import (
    read_component,
    read_config,
    single_file_family,
    stored_component,
)
from shiftreg.checkpoints.compvis import UNET_PREFIX, text_place, unet_key, vae_key
from shiftreg.checkpoints.merged import component_places, from_single_file, to_single_file
from shiftreg.checkpoints.stored import LoadedTensor, TensorSource, whole
from shiftreg.errors import InvalidInputError
from tests.whole import single_file_state

STABLE_DIFFUSION = {
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
}
ATTENTION = "transformer_blocks.0.attn2.to_k.weight"


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        assert torch.equal(tensor, other[name]), name


@pytest.fixture(params=["base", "stable_diffusion_base", "base_2", "base_xl"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def renamed(folder: Path, component: str) -> dict[str, TensorSource]:
    stored, config = stored_component(folder / component), read_config(folder / component)
    places = component_places(component, stored, config, single_file_family(folder))
    assert places.keys() == stored.keys()
    return to_single_file(stored, places)


def in_memory(sources: dict[str, TensorSource]) -> dict[str, torch.Tensor]:
    return {name: whole(source) for name, source in sources.items()}


def test_diffusers_maps_the_unet_back_to_what_it_was(folder: Path) -> None:
    tensors = in_memory(renamed(folder, "unet"))
    config = read_config(folder / "unet")
    assert_same(convert_ldm_unet_checkpoint(tensors, config), read_component(folder / "unet"))


def test_diffusers_maps_the_autoencoder_back_to_what_it_was(folder: Path) -> None:
    tensors = in_memory(renamed(folder, "vae"))
    config = read_config(folder / "vae")
    assert_same(convert_ldm_vae_checkpoint(tensors, config), read_component(folder / "vae"))


def test_every_tensor_comes_back_from_where_it_was_put(folder: Path) -> None:
    family = single_file_family(folder)
    assert len(family.single_file_classes) == (4 if (folder / "text_encoder_2").is_dir() else 3)
    for component in family.single_file_classes:
        stored, config = stored_component(folder / component), read_config(folder / component)
        places = component_places(component, stored, config, family)
        file = to_single_file(stored, places)
        for name, source in stored.items():
            back = from_single_file(file, places[name])
            assert back is not None
            assert back.dtype == source.dtype
            assert torch.equal(whole(back).reshape(source.shape), whole(source)), name


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name if name.startswith("text_") else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("name", ["base", "stable_diffusion_base", "base_xl"])
def test_diffusers_maps_clip_back_to_what_it_was(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    tensors = in_memory(renamed(folder, "text_encoder"))
    expected = old_names(read_component(folder / "text_encoder"))
    assert_same(convert_ldm_clip_checkpoint(tensors), expected)
    prefix = "conditioner.embedders.0" if name == "base_xl" else "cond_stage_model"
    assert f"{prefix}.transformer.text_model.final_layer_norm.weight" in tensors


@pytest.mark.parametrize("name", ["base_2", "base_xl"])
def test_diffusers_maps_open_clip_back_to_what_it_was(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    component = "text_encoder_2" if name == "base_xl" else "text_encoder"
    prefix = "conditioner.embedders.1.model." if name == "base_xl" else "cond_stage_model.model."
    kind = CLIPTextModelWithProjection if name == "base_xl" else CLIPTextModel
    model = kind(CLIPTextConfig.from_pretrained(folder / component))
    tensors = in_memory(renamed(folder, component))
    converted = convert_open_clip_checkpoint(model, tensors, prefix=prefix)
    assert_same(converted, old_names(read_component(folder / component)))
    assert f"{prefix}transformer.resblocks.1.attn.in_proj_weight" in tensors
    assert len(tensors) < len(converted)


def test_both_layouts_of_clip_get_the_same_names() -> None:
    prefix = "cond_stage_model.transformer."
    short, long = "encoder.layers.0.mlp.fc1.bias", "text_model.encoder.layers.0.mlp.fc1.bias"
    assert text_place(short, prefix) == text_place(long, prefix)


REAL_UNETS = {
    "1.4": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "2.1": {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    "XL": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
UNET_SIZES = {"1.4": 859_520_964, "2.1": 865_910_724, "XL": 2_567_463_684}


@pytest.mark.parametrize("name", REAL_UNETS)
def test_the_names_and_shapes_of_full_size_unets_are_those_of_diffusers(name: str) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(REAL_UNETS[name])
    tensors, config = model.state_dict(), dict(model.config)
    assert sum(tensor.numel() for tensor in tensors.values()) == UNET_SIZES[name]
    file = {UNET_PREFIX + unet_key(key, config): tensor for key, tensor in tensors.items()}
    back = convert_ldm_unet_checkpoint(file, config)
    assert {key: tensor.shape for key, tensor in back.items()} == {
        key: tensor.shape for key, tensor in tensors.items()
    }


def test_the_names_and_shapes_of_the_full_size_autoencoder_are_those_of_diffusers() -> None:
    with torch.device("meta"):
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
    tensors, config = model.state_dict(), dict(model.config)
    places = component_places("vae", tensors, config, families.STABLE_DIFFUSION)
    file = to_single_file({key: LoadedTensor(t) for key, t in tensors.items()}, places)
    state = {key: torch.empty(source.shape, device="meta") for key, source in file.items()}
    back = convert_ldm_vae_checkpoint(state, config)
    assert {key: tensor.shape for key, tensor in back.items()} == {
        key: tensor.shape for key, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"down_blocks.0.attentions.0.{ATTENTION}", f"input_blocks.1.1.{ATTENTION}"),
        (f"down_blocks.2.attentions.1.{ATTENTION}", f"input_blocks.8.1.{ATTENTION}"),
        (f"mid_block.attentions.0.{ATTENTION}", f"middle_block.1.{ATTENTION}"),
        (f"up_blocks.1.attentions.0.{ATTENTION}", f"output_blocks.3.1.{ATTENTION}"),
        (f"up_blocks.3.attentions.2.{ATTENTION}", f"output_blocks.11.1.{ATTENTION}"),
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("time_embedding.linear_2.bias", "time_embed.2.bias"),
        ("down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"),
        ("down_blocks.3.resnets.1.norm2.bias", "input_blocks.11.0.out_layers.0.bias"),
        ("mid_block.resnets.1.time_emb_proj.bias", "middle_block.2.emb_layers.1.bias"),
        ("up_blocks.0.upsamplers.0.conv.bias", "output_blocks.2.1.conv.bias"),
        ("up_blocks.1.upsamplers.0.conv.bias", "output_blocks.5.2.conv.bias"),
        ("up_blocks.3.resnets.2.conv_shortcut.weight", "output_blocks.11.0.skip_connection.weight"),
        ("conv_norm_out.weight", "out.0.weight"),
    ],
)
def test_the_names_of_stable_diffusion_are_the_known_ones(name: str, expected: str) -> None:
    assert unet_key(name, STABLE_DIFFUSION) == expected


@pytest.mark.parametrize(("new", "old"), [("to_q", "query"), ("to_out.0", "proj_attn")])
def test_the_autoencoder_of_the_first_diffusers_versions_maps_too(new: str, old: str) -> None:
    config = {"up_block_types": ["UpDecoderBlock2D"] * 4}
    names = [
        vae_key(f"decoder.mid_block.attentions.0.{kind}.weight", config) for kind in (new, old)
    ]
    assert names[0] == names[1]


def test_linear_attention_of_the_autoencoder_becomes_a_convolution(base: Path) -> None:
    tensors = single_file_state(base, {})
    assert tensors["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)
    assert tensors["first_stage_model.encoder.mid.attn_1.q.bias"].shape == (8,)


def test_a_joined_tensor_without_one_of_its_parts_is_refused(base_2: Path) -> None:
    stored = stored_component(base_2 / "text_encoder")
    config = read_config(base_2 / "text_encoder")
    del stored[next(name for name in stored if name.endswith("layers.1.self_attn.k_proj.bias"))]
    places = component_places("text_encoder", stored, config, families.STABLE_DIFFUSION)
    with pytest.raises(InvalidInputError, match=r"resblocks\.1\.attn\.in_proj_bias"):
        to_single_file(stored, places)


@pytest.mark.parametrize("name", ["add_embedding.linear_1.weight", "down_blocks.0.motion.0.x", "x"])
def test_a_tensor_without_a_place_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        unet_key(name, STABLE_DIFFUSION)
    with pytest.raises(InvalidInputError, match=name):
        vae_key(name, STABLE_DIFFUSION)


def test_an_unknown_kind_of_block_is_refused() -> None:
    config = STABLE_DIFFUSION | {"down_block_types": ["AttnDownBlock2D"]}
    with pytest.raises(InvalidInputError, match="AttnDownBlock2D"):
        unet_key("conv_in.weight", config)
