"""Tiny Stable Diffusions 2 and XL; low-rank pairs, as trainers of LoRAs make them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from tests.tiny import autoencoder, write_tokenizer

RANK = 3
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0"
# Linear layers, convolutions of 3 x 3 and 1 x 1 (proj_in), with and without stride.
LORA_MODULES = (
    f"{ATTENTION}.attn1.to_q",
    f"{ATTENTION}.attn2.to_k",
    f"{ATTENTION}.attn2.to_out.0",
    f"{ATTENTION}.ff.net.0.proj",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.0.resnets.1.conv1",
    "down_blocks.2.downsamplers.0.conv",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_v",
    "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_v",
    "up_blocks.2.upsamplers.0.conv",
)


def text_config(tokenizer: CLIPTokenizer, width: int, act: str, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        hidden_act=act,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.fixture(scope="session")
def base_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the structure of Stable Diffusion 2.1; tests must not change it."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("stable-diffusion-2") / "base"
    tokenizer = write_tokenizer(folder.with_name("tokenizer"))
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 12, 12),
        cross_attention_dim=1024,  # by which diffusers tells it
        attention_head_dim=(1, 2, 3, 3),
        norm_num_groups=2,
        use_linear_projection=True,
    )
    StableDiffusionPipeline(
        vae=autoencoder(4, 2),
        # The whole model has three layers, of which the last is not used.
        text_encoder=CLIPTextModel(text_config(tokenizer, 1024, "gelu", 2)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the structure of Stable Diffusion XL; tests must not change it."""
    torch.manual_seed(6)
    folder = tmp_path_factory.mktemp("stable-diffusion-xl") / "base"
    tokenizer = write_tokenizer(folder.with_name("tokenizer"))
    widths = (8, 12)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 12),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        cross_attention_dim=sum(widths),
        attention_head_dim=(1, 2, 3),
        norm_num_groups=2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + widths[1],
    )
    StableDiffusionXLPipeline(
        vae=autoencoder(4, 2),
        text_encoder=CLIPTextModel(text_config(tokenizer, widths[0], "quick_gelu", 2)),
        # diffusers tells the family by the tenth layer.
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, widths[1], "gelu", 10)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
    ).to(torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unet(stable_diffusion_base: Path) -> dict[str, Tensor]:
    """The state dict of the base's UNet, in half precision."""
    return load_file(stable_diffusion_base / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def pairs(unet: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> down (r, c_in, ...) and up (c_out, r, ...), in single precision."""
    generator = torch.Generator().manual_seed(4)
    result = {}
    for module in LORA_MODULES:
        c_out, *rest = unet[f"{module}.weight"].shape
        down = torch.randn(RANK, *rest, generator=generator)
        up = torch.randn(c_out, RANK, *[1] * (len(rest) - 1), generator=generator)
        result[module] = (down, up)
    return result


@pytest.fixture
def products(pairs: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Weight -> up times down, in double precision."""
    return {
        f"{module}.weight": torch.einsum(
            "or,r...->o...", up.double().reshape(up.shape[0], RANK), down.double()
        )
        for module, (down, up) in pairs.items()
    }
