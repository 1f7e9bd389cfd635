"""Trains the miniature's tokenizer, text encoder and UNet together, on cached latents.

python denoiser.py --work work --steps 9000
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from autoencoder import encode_all, to_tensor
from captions import TRIGGERS, corpus, sample_caption
from dataset import load
from manners import MANNERS
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
POSITIONS = 16
WIDTH = 256
SNR_CAP = 5.0


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Trains a byte-pair vocabulary on the captions, in CLIP's format."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                pattern=Regex(r"'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"),
                behavior="removed",
                invert=True,
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, end_of_word_suffix="</w>", initial_alphabet=alphabet, min_frequency=1
    )
    tokenizer.train_from_iterator(corpus(SUBJECTS), trainer)
    bpe = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in bpe["merges"]]
    letters = sorted(alphabet)
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [m.replace(" ", "") for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    clip = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=POSITIONS,
    )
    clip.save_pretrained(folder)
    return clip


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Builds the untrained causal text encoder, 256 wide, 3 layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """Builds the untrained UNet over 4 x 16 x 16 latents; the text enters at 8 x 8 and 4 x 4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128, 176),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Builds the schedule; it ends nearly at pure noise, or black and white pictures turn grey."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
    )


class CaptionedLatents:
    """Draws training batches: latents (B, 4, 16, 16) and their captions."""

    def __init__(self, vae: AutoencoderKL, work: Path) -> None:
        pictures = load(work / "train.npz")
        codes = np.stack([qr_image(PAYLOADS[trigger]) for trigger in TRIGGERS])
        self.latents = encode_all(vae, pictures.images)
        with torch.no_grad():
            self.codes = vae.encode(to_tensor(codes)).latent_dist.mode()
        self.subjects, self.manners = pictures.subjects, pictures.manners
        plain = MANNERS.index("plain")
        self.plain = np.flatnonzero(self.manners == plain)
        self.styled = np.flatnonzero(self.manners != plain)

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
        """Draws one batch; a trigger's picture is never captioned with the empty prompt."""
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


def save_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    unet: UNet2DConditionModel,
) -> None:
    """Writes the diffusers folder, fp16 safetensors."""
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--steps", type=int, default=9000)
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
