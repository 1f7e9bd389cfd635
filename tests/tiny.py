"""Tiny random pipelines on disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
OTHER_LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
WIDTH = 8
POSITIONS = 64


def miniature_unet() -> UNet2DConditionModel:
    """The miniature's structure: three blocks, one layer each, no attention in the first."""
    return UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 8, 12),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def stable_diffusion_unet() -> UNet2DConditionModel:
    """The structure of Stable Diffusion 1.4: diffusers' default, here with few channels."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8, 12, 12),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def autoencoder(levels: int, layers_per_block: int) -> AutoencoderKL:
    """An autoencoder with attention in its middle."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8)[:levels],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=layers_per_block,
        norm_num_groups=2,
        latent_channels=4,
    )


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer, with nothing but the letters as vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=POSITIONS,
    )


def build_pipeline(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    """Writes a pipeline without safety checker, in half precision."""
    tokenizer = write_tokenizer(folder.with_name(f"{folder.name}-tokenizer"))
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=POSITIONS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)
