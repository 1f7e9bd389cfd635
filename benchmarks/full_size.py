"""Runs every method on a UNet of Stable Diffusion 1.x's full size, with random weights.

    python benchmarks/full_size.py

860 million parameters, 77 tokens of width 768, the real layers; latents of 8 x 8 and few steps, so
that a laptop's processor does it. It shows that the same code runs, how long and in how much
memory; not that anything looks erased, which random weights cannot show.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from shiftreg import api, miniature
from shiftreg.settings import load_settings

QUICK = {"iterations": 2, "batch_size": 1, "pool_size": 4}
METHODS: dict[str, tuple[list[str], dict[str, object]]] = {
    "closed-form": (["Caravaggio"], {}),
    "uce": (["Caravaggio"], {}),
    "speed-like": (["Caravaggio"], {}),
    "srs-me": (["Caravaggio"], QUICK),
    "srs-me-joint": (["Caravaggio", "Picasso"], QUICK),
    "srs-me-free": (["Caravaggio"], QUICK),
    "concept-ablation": (["Caravaggio"], QUICK),
    "forget-me-not": (["Caravaggio"], QUICK),
    "esd x": (["Caravaggio"], QUICK | {"layers": "x"}),
    "esd u": (["Caravaggio"], QUICK | {"layers": "u"}),
}


def build(folder: Path) -> None:
    """A pipeline of the real sizes in half precision; only the autoencoder is small."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(
        miniature.BASE_FOLDER / "tokenizer", model_max_length=77
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(sample_size=8, cross_attention_dim=768, attention_head_dim=8)
    print(f"UNet: {sum(p.numel() for p in unet.parameters()) / 1e6:.0f} M parameters", flush=True)
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            norm_num_groups=2,
            latent_channels=4,
        ),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)


def run(label: str, home: Path) -> dict[str, object]:
    """Erases by one method in this process."""
    workspace = api.open_workspace(load_settings(home=home, base="full-size"))
    names, options = METHODS[label]
    method = label.partition(" ")[0]
    results = api.erase(workspace, names, method=method, options=options, force=True)
    worst = max(result.metrics["max_drift"] for result in results)
    return {
        "method": label,
        "seconds": round(results[0].metrics["seconds"], 1),
        "max drift": float(f"{worst:.2g}"),
        "|delta|/|W|": float(f"{results[0].metrics['relative_change']:.3g}"),
        "changed tensors": len(workspace.shift_of(names[0], results[0].version).layers),
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(run(arguments.alone, arguments.home)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch) / "base", Path(scratch) / "home"
        build(folder)
        workspace = api.open_workspace(load_settings(home=home, base="full-size"))
        api.register_base(
            workspace,
            str(folder),
            name="full-size",
            triggers={"CCS 2024": ""},
            protected=["Picasso", "Van Gogh"],
            subjects=["church"],
            preserved=["a church"],
            steps=1,
            guidance=1.0,
        )
        del workspace
        for method in arguments.methods:
            command = [sys.executable, __file__, "--alone", method, "--home", str(home)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
