"""The names in adapters: those that diffusers, kohya's trainers and our own importer know."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from torch import Tensor, nn

from shiftreg.checkpoints.adapter_export import AdapterNames
from shiftreg.errors import IncompatibleError, InvalidInputError

SD14 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def build(config: Mapping[str, object]) -> UNet2DConditionModel:
    """The real structure, without values."""
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


def names_of(unet: UNet2DConditionModel, *, compvis: bool) -> AdapterNames:
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    return AdapterNames(shapes, dict(unet.config) if compvis else None)


def text_layers(unet: UNet2DConditionModel) -> list[str]:
    return [name for name, _ in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]


def pair(names: AdapterNames, form: str, module: str, rank: int = 2) -> dict[str, Tensor]:
    outputs, inputs = names.shape(module)
    return names.pair(form, module, torch.zeros(rank, inputs), torch.zeros(outputs, rank))


def trained_by_kohya(unet: nn.Module) -> set[str]:
    """What kohya's trainer calls the layers of its networks: all of the transformers."""
    return {
        f"lora_unet_{name}_{inner}".replace(".", "_")
        for name, module in unet.named_modules()
        if type(module).__name__ == "Transformer2DModel"
        for inner, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }


def test_stable_diffusion_1_has_the_names_that_kohya_trains() -> None:
    unet = build(SD14)
    names = names_of(unet, compvis=False)
    layers = text_layers(unet)
    assert len(layers) == 32
    written = [key for layer in layers for key in pair(names, "kohya", layer)]
    modules = {key.split(".")[0] for key in written}
    assert len(modules) == 32
    assert modules <= trained_by_kohya(unet)
    assert {key.split(".", 1)[1] for key in written} == {
        "lora_down.weight",
        "lora_up.weight",
        "alpha",
    }


def test_diffusers_reads_stable_diffusion_xl_in_the_names_of_kohya() -> None:
    unet = build(SDXL)
    names = names_of(unet, compvis=True)
    layers = text_layers(unet)
    assert len(layers) == 140
    state = {k: t for layer in layers for k, t in pair(names, "kohya", layer).items()}
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.alpha" in state
    assert "lora_unet_middle_block_1_transformer_blocks_9_attn2_to_v.lora_up.weight" in state
    assert "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_k.lora_down.weight" in state
    mapped = _maybe_map_sgm_blocks_to_diffusers(state, unet.config)
    converted, alphas = _convert_non_diffusers_lora_to_diffusers(mapped)
    assert len(alphas) == 140
    read = {
        key.removeprefix("unet.").replace(".processor", "").replace("_lora.down.weight", "")
        for key in converted
        if "down.weight" in key
    }
    assert read == set(layers)


def test_a_pair_in_diffusers_names_is_what_peft_calls_it() -> None:
    unet = build(SD14)
    layer = text_layers(unet)[0]
    assert set(pair(names_of(unet, compvis=False), "diffusers", layer)) == {
        f"unet.{layer}.lora_A.weight",
        f"unet.{layer}.lora_B.weight",
    }


def test_alpha_is_the_rank_so_that_no_scale_is_left() -> None:
    names = names_of(build(SD14), compvis=False)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    alpha = next(t for k, t in pair(names, "kohya", layer, 300).items() if k.endswith("alpha"))
    assert alpha.dtype == torch.float32
    assert float(alpha) == 300


def test_convolutions_keep_their_kernel_in_the_down() -> None:
    names = names_of(build(SD14), compvis=False)
    tensors = names.pair("kohya", "conv_in", torch.zeros(2, 4 * 9), torch.zeros(320, 2))
    assert tensors["lora_unet_conv_in.lora_down.weight"].shape == (2, 4, 3, 3)
    assert tensors["lora_unet_conv_in.lora_up.weight"].shape == (320, 2, 1, 1)


def test_dense_changes_of_weights_and_biases_have_names() -> None:
    names = names_of(build(SD14), compvis=False)
    weight = names.difference("conv_in", torch.zeros(320, 4, 3, 3))
    bias = names.difference("conv_in.bias", torch.zeros(320))
    assert set(weight | bias) == {"lora_unet_conv_in.diff", "lora_unet_conv_in.diff_b"}


def test_a_lone_bias_gets_an_empty_weight_beside_it() -> None:
    names = names_of(build(SD14), compvis=False)
    tensors = names.complete(names.difference("conv_in.bias", torch.ones(320)))
    assert tensors["lora_unet_conv_in.diff"].shape == (320, 4, 3, 3)
    assert not tensors["lora_unet_conv_in.diff"].any()
    assert names.complete(tensors) == tensors


def test_a_transformer_takes_the_names_of_peft_alone() -> None:
    layer = "transformer_blocks.0.attn2.to_k"
    names = AdapterNames({f"{layer}.weight": (8, 4)}, None, is_unet=False)
    assert set(pair(names, "diffusers", layer)) == {
        f"base_model.model.{layer}.lora_A.weight",
        f"base_model.model.{layer}.lora_B.weight",
    }
    names.check_form("diffusers")
    with pytest.raises(InvalidInputError, match="for UNets"):
        names.check_form("kohya")


def test_what_is_no_layer_of_the_base_is_refused() -> None:
    names = names_of(build(SD14), compvis=False)
    with pytest.raises(IncompatibleError, match="no layer 'mid_block\\.attn9"):
        names.shape("mid_block.attn9.to_k")
    odd = AdapterNames({"scale_shift_table": (2, 8)}, None)
    with pytest.raises(InvalidInputError, match="compose --export"):
        odd.difference("scale_shift_table", torch.zeros(2, 8))
