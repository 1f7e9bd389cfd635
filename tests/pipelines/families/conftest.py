"""Tiny random pipelines of every family, wide enough that a concept fits into their null space."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from shiftreg import pipelines

LETTERS = "abcdefghijklmnopqrstuvwxyz"
POSITIONS = 24


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
    )


def clip_tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """Letters, and a padding token, which in SD 2.x and SDXL's second encoder is "!"."""
    words = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=POSITIONS,
        pad_token=pad,
    )


def clip_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        projection_dim=10,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def sd1(folder: Path) -> DiffusionPipeline:
    tokenizer = clip_tokenizer(folder, "<|endoftext|>")
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_config(tokenizer, 96)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(4, 8),
            layers_per_block=1,
            cross_attention_dim=96,
            attention_head_dim=2,
            norm_num_groups=2,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd2(folder: Path) -> DiffusionPipeline:
    tokenizer = clip_tokenizer(folder, "!")
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_config(tokenizer, 96)),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(4, 8),
            layers_per_block=1,
            cross_attention_dim=96,
            attention_head_dim=(2, 4),
            norm_num_groups=2,
            use_linear_projection=True,
        ),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(folder: Path) -> DiffusionPipeline:
    first = clip_tokenizer(folder / "1", "<|endoftext|>")
    second = clip_tokenizer(folder / "2", "!")
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_config(first, 40)),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(second, 56)),
        tokenizer=first,
        tokenizer_2=second,
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(4, 8),
            layers_per_block=1,
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=96,
            attention_head_dim=(2, 4),
            norm_num_groups=2,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 10,
        ),
        scheduler=EulerDiscreteScheduler(steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def t5_tokenizer() -> T5Tokenizer:
    """Letters, the beginning of a word with them; no BOS, and EOS at the end."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    words += [(letter, -3.0) for letter in LETTERS] + [(f"▁{letter}", -3.0) for letter in LETTERS]
    return T5Tokenizer(vocab=words, extra_ids=0, model_max_length=120)


def pixart(kind: type[DiffusionPipeline], sample_size: int = 8) -> DiffusionPipeline:
    tokenizer = t5_tokenizer()
    return kind(
        vae=autoencoder(),
        text_encoder=T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=16,
                d_kv=8,
                d_ff=16,
                num_layers=2,
                num_heads=2,
                feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer=tokenizer,
        transformer=PixArtTransformer2DModel(
            num_attention_heads=4,
            attention_head_dim=24,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=96,
            sample_size=sample_size,
            patch_size=2,
            caption_channels=16,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )


FAMILIES: dict[str, Callable[[Path], DiffusionPipeline]] = {
    "sd1": sd1,
    "sd2": sd2,
    "sdxl": sdxl,
    "pixart-alpha": lambda _folder: pixart(PixArtAlphaPipeline),
    "pixart-sigma": lambda _folder: pixart(PixArtSigmaPipeline),
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's base, made when it is first asked for; tests must not change it."""
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            root = tmp_path_factory.mktemp(name)
            torch.manual_seed(0)
            pipeline = FAMILIES[name](root / "tokenizers")
            # Wide prompts tell more of each other than default weights of encoders do.
            for part in ("text_encoder", "text_encoder_2"):
                if encoder := getattr(pipeline, part, None):
                    for parameter in encoder.parameters():
                        if parameter.ndim > 1:
                            torch.nn.init.normal_(parameter, std=0.5)
            pipeline.save_pretrained(root / "base")
            folders[name] = root / "base"
        return folders[name]

    return save


@pytest.fixture(scope="session", params=["sd1", "sd2", "sdxl", "pixart-alpha"])
def family(request: pytest.FixtureRequest) -> str:
    """The name of each family in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def folder(family: str, saved: Callable[[str], Path]) -> Path:
    """The base of each family in turn."""
    return saved(family)


@pytest.fixture(scope="session")
def pipeline(folder: Path) -> DiffusionPipeline:
    """The same, loaded."""
    return pipelines.load_pipeline(folder)
