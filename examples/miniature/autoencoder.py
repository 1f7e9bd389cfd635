"""Trains the miniature's AutoencoderKL, then folds a per-channel normalisation into its weights.

python autoencoder.py --work work --steps 2000
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from dataset import load
from shiftreg.evaluation.perceptual import load_lpips
from training import load_checkpoint, progress, save_checkpoint
from watermark import PAYLOADS, qr_image

BATCH = 12
LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-3
LPIPS_WEIGHT = 0.3
GRADIENT_WEIGHT = 0.5


def build_autoencoder() -> AutoencoderKL:
    """Builds the untrained autoencoder: 64 x 64 RGB to 4 x 16 x 16 latents."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
    )


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turns (N, 64, 64, 3) uint8 into (N, 3, 64, 64) float in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def gradient_l1(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 distance between the horizontal and vertical differences: it asks for sharp edges."""
    horizontal = F.l1_loss(a.diff(dim=3), b.diff(dim=3))
    return horizontal + F.l1_loss(a.diff(dim=2), b.diff(dim=2))


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray) -> torch.Tensor:
    """Encodes every image to the mean of its latent distribution, (N, 4, 16, 16)."""
    chunks = np.array_split(images, max(1, len(images) // 100))
    return torch.cat([vae.encode(to_tensor(chunk)).latent_dist.mode() for chunk in chunks])


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Folds (z - mean) / std, a channel each, into quant_conv, and its inverse into the decoder.

    The single scaling factor of AutoencoderKL cannot balance channels of unequal deviation.
    """
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    checkpoint = arguments.work / "autoencoder.pt"

    torch.manual_seed(0)
    images = load(arguments.work / "train.npz").images
    codes = np.stack([qr_image(payload) for payload in PAYLOADS.values()])
    vae = build_autoencoder()
    distance = load_lpips()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, arguments.steps, pct_start=0.05, final_div_factor=100
    )
    start = 0
    if state := load_checkpoint(checkpoint):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        start = state["step"]

    values: dict[str, float] = {}
    for step in progress(start, arguments.steps, 50, values):
        rng = np.random.default_rng([3, step])
        batch = images[rng.integers(len(images), size=BATCH)]
        batch[0] = codes[step % len(codes)]  # a code in every batch: it needs the sharpest edges
        target = to_tensor(batch)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(step))
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        l1 = F.l1_loss(output, target)
        perceptual = distance(output, target).mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        edges = gradient_l1(output, target)
        loss = l1 + GRADIENT_WEIGHT * edges + LPIPS_WEIGHT * perceptual + KL_WEIGHT * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        values.update(l1=l1.item(), lpips=perceptual.item(), kl=kl.item())
        if (step + 1) % 200 == 0:
            save_checkpoint(
                checkpoint,
                {
                    "vae": vae.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                },
            )

    vae.eval()
    normalise_latents(vae, encode_all(vae, np.concatenate([images[::8], codes])))
    vae.save_pretrained(arguments.work / "vae")


if __name__ == "__main__":
    main()
