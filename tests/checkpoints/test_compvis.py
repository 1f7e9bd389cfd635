from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)

from shiftreg.checkpoints.base_folder import read_component, read_config
from shiftreg.checkpoints.compvis import (
    text_encoder_to_compvis,
    unet_key,
    unet_to_compvis,
    vae_key,
    vae_to_compvis,
)
from shiftreg.errors import InvalidInputError

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


@pytest.fixture(params=["base", "stable_diffusion_base"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_diffusers_maps_the_unet_back_to_what_it_was(folder: Path) -> None:
    config = read_config(folder / "unet")
    tensors = read_component(folder / "unet")
    renamed = unet_to_compvis(tensors, config)
    assert len(renamed) == len(tensors)
    assert_same(convert_ldm_unet_checkpoint(renamed, config), tensors)


def test_diffusers_maps_the_autoencoder_back_to_what_it_was(folder: Path) -> None:
    config = read_config(folder / "vae")
    tensors = read_component(folder / "vae")
    renamed = vae_to_compvis(tensors, config)
    assert len(renamed) == len(tensors)
    assert_same(convert_ldm_vae_checkpoint(renamed, config), tensors)


def test_the_text_encoder_gets_the_old_prefix_whichever_layout_it_has(folder: Path) -> None:
    tensors = read_component(folder / "text_encoder")
    old = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()}
    renamed = text_encoder_to_compvis(tensors)
    assert_same(renamed, text_encoder_to_compvis(old))
    assert "cond_stage_model.transformer.text_model.final_layer_norm.weight" in renamed
    assert_same(convert_ldm_clip_checkpoint(renamed), old)


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
    tensors = read_component(base / "vae")
    renamed = vae_to_compvis(tensors, read_config(base / "vae"))
    assert renamed["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)
    assert renamed["first_stage_model.encoder.mid.attn_1.q.bias"].shape == (8,)


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
