"""The models that people use, by their published configurations; without weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from diffusers import FluxTransformer2DModel, PixArtTransformer2DModel, SD3Transformer2DModel
from diffusers import UNet2DConditionModel as UNet
from torch import nn

from shiftreg.errors import IncompatibleError
from shiftreg.pipelines import image_independent_layers


def stable_diffusion_1_4() -> nn.Module:
    return UNet(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


def stable_diffusion_2_1() -> nn.Module:
    return UNet(
        sample_size=96,
        cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20),
        use_linear_projection=True,
        upcast_attention=True,
    )


def stable_diffusion_xl() -> nn.Module:
    return UNet(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def pixart_alpha() -> nn.Module:
    return PixArtTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        cross_attention_dim=1152,
        attention_bias=True,
        sample_size=128,
        patch_size=2,
        caption_channels=4096,
    )


@pytest.mark.parametrize(
    ("build", "millions", "width", "outputs"),
    [
        # One pair a transformer: 2 down, 3 up in each of three blocks, and 1 in the middle.
        (stable_diffusion_1_4, 860, 768, {320: 10, 640: 10, 1280: 12}),
        (stable_diffusion_2_1, 866, 1024, {320: 10, 640: 10, 1280: 12}),
        # 640: 5 transformers of 2 layers; 1280: 5 of 10, and 10 in the middle.
        (stable_diffusion_xl, 2567, 2048, {640: 20, 1280: 120}),
        (pixart_alpha, 611, 1152, {1152: 56}),
    ],
)
def test_layers_of_a_full_size_model(
    build: Callable[[], nn.Module], millions: int, width: int, outputs: dict[int, int]
) -> None:
    with torch.device("meta"):
        network = build()
    assert sum(p.numel() for p in network.parameters()) // 10**6 in range(
        millions - 1, millions + 2
    )
    layers = image_independent_layers(network)
    assert {layer.in_features for layer in layers.values()} == {width}
    assert Counter(layer.out_features for layer in layers.values()) == outputs
    assert len({name.rpartition(".")[0] for name in layers}) == len(layers) / 2


@pytest.mark.parametrize("kind", [SD3Transformer2DModel, FluxTransformer2DModel])
def test_joint_attention_is_refused_by_structure(kind: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        network = kind(num_layers=1, attention_head_dim=16, num_attention_heads=2)
    with pytest.raises(IncompatibleError, match=r"joint attention.*docs/families\.md"):
        image_independent_layers(network)


def test_text_of_several_widths_is_refused() -> None:
    with torch.device("meta"):
        network = UNet(block_out_channels=(32, 32, 32, 32), cross_attention_dim=(8, 8, 16, 16))
    with pytest.raises(IncompatibleError, match="read widths 8, 16"):
        image_independent_layers(network)
