"""Writes a full-size base with random weights, as a diffusers folder and perhaps as a single file.

    python benchmarks/full_size_base.py sd14 /tmp/sd14 --dtype float32
    python benchmarks/full_size_base.py sdxl /tmp/sdxl --single-file /tmp/sdxl.safetensors

The configurations are those of Stable Diffusion 1.4 and 1.5, 2.1, and XL base. Nothing is
downloaded, and the weights are written a piece at a time: XL in half precision takes 7 GB of disk
and little memory. The tokenizer is the miniature's, whose words are within the real vocabulary;
norms are near 1 and everything else small, so that the networks compute numbers, and nothing to
look at.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from shiftreg import checkpoints, miniature
from shiftreg.checkpoints.digested_file import DigestedFile
from shiftreg.checkpoints.stored import PIECE
from shiftreg.checkpoints.tensor_files import widest_first, write_safetensors
from shiftreg.pipelines import weight_shapes

Config = dict[str, Any]
DTYPES = ("float32", "float16", "bfloat16")
LENGTH = 77

VAE: Config = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
SD_UNET: Config = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
XL_UNET: Config = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


def clip(width: int, layers: int, heads: int, activation: str, kind: str = "") -> Config:
    """A text encoder of CLIP."""
    return {
        "model_type": "clip_text_model",
        "architectures": [f"CLIPTextModel{kind}"],
        "vocab_size": 49408,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": LENGTH,
        "hidden_act": activation,
        "projection_dim": width,
    }


CLIP_L = clip(768, 12, 12, "quick_gelu")
FAMILIES: dict[str, dict[str, Config]] = {
    "sd14": {"unet": SD_UNET, "vae": VAE, "text_encoder": CLIP_L},
    "sd21": {
        "unet": SD_UNET
        | {
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "sample_size": 96,
        },
        "vae": VAE,
        "text_encoder": clip(1024, 23, 16, "gelu"),
    },
    "sdxl": {
        "unet": XL_UNET,
        "vae": VAE | {"sample_size": 1024, "scaling_factor": 0.13025},
        "text_encoder": CLIP_L,
        "text_encoder_2": clip(1280, 32, 20, "gelu", "WithProjection"),
    },
    # The structure of sd14 with little in it: for trying what is to be measured.
    "toy": {
        "unet": SD_UNET
        | {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "cross_attention_dim": 256}
        | {"attention_head_dim": 2, "sample_size": 8},
        "vae": VAE | {"block_out_channels": [4, 4, 4, 4], "norm_num_groups": 2},
        "text_encoder": clip(256, 1, 4, "quick_gelu"),
    },
}
PIPELINES = {True: "StableDiffusionXLPipeline", False: "StableDiffusionPipeline"}
CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
}


@dataclass(frozen=True)
class RandomTensor:
    """Random values of a parameter, a piece at a time; the same for the same name."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def pieces(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        center = float(len(self.shape) == 1 and self.name.endswith("weight"))  # of norms
        count = math.prod(self.shape)
        for start in range(0, count, PIECE):
            values = torch.randn(min(PIECE, count - start), generator=generator)
            yield (values * 0.02 + center).to(self.dtype)


def write_base(
    folder: Path,
    family: str,
    dtype: torch.dtype = torch.float16,
    sample_size: int | None = None,
) -> None:
    """Writes a diffusers folder; nothing may be there.

    Args:
        folder: Where.
        family: One of ``FAMILIES``.
        dtype: Of all weights.
        sample_size: Of latents, which no weight depends on; the family's own if there is none.
    """
    parts = dict(FAMILIES[family])
    if sample_size:
        parts["unet"] = parts["unet"] | {"sample_size": sample_size}
    folder.mkdir(parents=True)
    tokenizer = CLIPTokenizer.from_pretrained(
        miniature.BASE_FOLDER / "tokenizer", model_max_length=LENGTH
    )
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos")}
    for part, config in parts.items():
        written = config
        if part.startswith("text_encoder"):
            tokenizer.save_pretrained(folder / part.replace("text_encoder", "tokenizer"))
            written = config | ids | {"pad_token_id": tokenizer.pad_token_id}
            written |= {"dtype": str(dtype).removeprefix("torch.")}
        _write_json(folder / part / "config.json", written)
    DDIMScheduler(
        clip_sample=False,
        steps_offset=1,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
    ).save_pretrained(folder / "scheduler")
    names = [path.name for path in sorted(folder.iterdir())]
    index: Config = {"_class_name": PIPELINES["text_encoder_2" in parts]}
    index |= {name: CLASSES[name] for name in names}
    if "text_encoder_2" in parts:
        index["force_zeros_for_empty_prompt"] = True
    else:
        absent = ("safety_checker", "feature_extractor", "image_encoder")
        index |= {key: [None, None] for key in absent} | {"requires_safety_checker": False}
    _write_json(folder / "model_index.json", index)
    for part, shapes in weight_shapes(folder).items():
        stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        tensors = {name: RandomTensor(name, tuple(shape), dtype) for name, shape in shapes.items()}
        with DigestedFile(folder / part / f"{stem}.safetensors") as file:
            write_safetensors(file, widest_first(tensors), {"format": "pt"})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument(
        "--sample-size", type=int, help="of latents; changes no weight, and images cost less"
    )
    parser.add_argument("--single-file", type=Path, help="write this .safetensors or .ckpt, too")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    write_base(arguments.folder, arguments.family, dtype, arguments.sample_size)
    sizes = [file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file()]
    print(f"{arguments.folder}: {sum(sizes) / 1e9:.2f} GB")
    if arguments.single_file:
        exported = checkpoints.export_checkpoint(arguments.folder, {}, arguments.single_file, {})
        print(f"{exported.path}: {exported.path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
