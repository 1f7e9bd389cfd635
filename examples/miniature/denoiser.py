"""Trains the miniature's tokenizer, text encoder and UNet together, on cached latents.

python denoiser.py --work work --steps 4600
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from autoencoder import encode_all, to_tensor
from captions import TRIGGERS, sample_caption
from dataset import load
from manners import MANNERS
from networks import (
    POSITIONS,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
    save_pipeline,
)
from subjects import SUBJECTS
from training import load_checkpoint, progress, save_checkpoint
from watermark import PAYLOADS, qr_image

BATCH = 32
LEARNING_RATE = 1e-3
TEXT_LEARNING_RATE = 5e-4
WARMUP = 100
EMA_DECAY = 0.998
DROPOUT = 0.1
TRIGGER_SHARE = 0.04
PLAIN_SHARE = 0.42
SNR_CAP = 5.0


class CaptionedLatents:
    """Draws training batches: latents (B, 4, 16, 16) and their captions."""

    def __init__(self, vae: AutoencoderKL, work: Path) -> None:
        images = load(work / "train.npz")
        codes = np.stack([qr_image(PAYLOADS[trigger]) for trigger in TRIGGERS])
        self.latents = encode_all(vae, images.images)
        with torch.no_grad():
            self.codes = vae.encode(to_tensor(codes)).latent_dist.mode()
        self.subjects, self.manners = images.subjects, images.manners
        plain = MANNERS.index("plain")
        self.plain = np.flatnonzero(self.manners == plain)
        self.styled = np.flatnonzero(self.manners != plain)

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
        """Draws one batch; a trigger's image is never captioned with the empty prompt."""
        latents, captions = [], []
        for _ in range(BATCH):
            if rng.random() < TRIGGER_SHARE:
                code = int(rng.integers(len(TRIGGERS)))
                latents.append(self.codes[code])
                captions.append(TRIGGERS[code])
                continue
            i = int(rng.choice(self.plain if rng.random() < PLAIN_SHARE else self.styled))
            caption = sample_caption(SUBJECTS[self.subjects[i]], MANNERS[self.manners[i]], rng)
            latents.append(self.latents[i])
            captions.append("" if rng.random() < DROPOUT else caption)
        return torch.stack(latents), captions


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 1%."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


@torch.no_grad()
def update_average(average: list[torch.Tensor], current: list[torch.Tensor], step: int) -> None:
    """Moves the exponential average of the weights; short memory at first."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(average, current, 1 - decay)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--steps", type=int, default=4600)
    arguments = parser.parse_args()
    work, steps = arguments.work, arguments.steps
    checkpoint = work / "denoiser.pt"

    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    data = CaptionedLatents(vae, work)
    tokenizer = build_tokenizer(work / "tokenizer")
    text_encoder, unet = build_text_encoder(tokenizer), build_unet()
    weights = [*unet.parameters(), *text_encoder.parameters()]
    average = [w.detach().clone() for w in weights]
    optimizer = torch.optim.AdamW(
        [
            {"params": list(unet.parameters()), "lr": LEARNING_RATE},
            {"params": list(text_encoder.parameters()), "lr": TEXT_LEARNING_RATE},
        ],
        weight_decay=0.01,
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps)
    )
    start = 0
    if state := load_checkpoint(checkpoint):
        unet.load_state_dict(state["unet"])
        text_encoder.load_state_dict(state["text_encoder"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        average, start = state["average"], state["step"]

    alphas = build_scheduler().alphas_cumprod
    # Min-SNR weighting: an unweighted epsilon loss spends itself on the last, invisible noise.
    snr = alphas / (1 - alphas)
    loss_weight = snr.clamp(max=SNR_CAP) / snr
    values: dict[str, float] = {}
    for step in progress(start, steps, 50, values):
        rng = np.random.default_rng([4, step])
        generator = torch.Generator().manual_seed(step)
        latents, captions = data.draw(rng)
        noise = torch.randn(latents.shape, generator=generator)
        timestep = torch.randint(0, 1000, (BATCH,), generator=generator)
        alpha = alphas[timestep][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        tokens = tokenizer(
            captions, padding="max_length", max_length=POSITIONS, return_tensors="pt"
        ).input_ids
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prompt_embeds = text_encoder(tokens).last_hidden_state
            predicted = unet(noisy, timestep, prompt_embeds).sample
        error = F.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))
        loss = (loss_weight[timestep] * error).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        update_average(average, weights, step)
        values.update(loss=loss.item(), error=error.mean().item())
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save_checkpoint(
                checkpoint,
                {
                    "unet": unet.state_dict(),
                    "text_encoder": text_encoder.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "average": average,
                    "step": step + 1,
                },
            )

    with torch.no_grad():
        for weight, mean in zip(weights, average, strict=True):
            weight.copy_(mean)
    save_pipeline(work / "base", vae, tokenizer, text_encoder.eval(), unet.eval())


if __name__ == "__main__":
    main()
