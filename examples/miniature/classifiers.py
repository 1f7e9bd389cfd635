"""Trains the classifiers of generated images: which manner, and which subject.

    python classifiers.py --work work --out work/classifiers

Generated images are a little soft, shifted and noisy, so training images are made so too, and
a share of them is passed through the autoencoder. Some are blends of two images with their
labels blended alike, and some show nothing and belong to every class alike, so that an undecided
image is not pulled to a favourite class.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from autoencoder import encode_all
from dataset import Images, load
from manners import MANNERS
from shiftreg.evaluation.classifier import Classifier, load_classifier, save_classifier
from shiftreg.evaluation.images import to_tensor
from shiftreg.evaluation.networks import SmallNetwork, fold
from subjects import SUBJECTS
from training import progress

BATCH = 64
LEARNING_RATE = 4e-3
LABEL_SMOOTHING = 0.05
RECONSTRUCTIONS = 1500
RECONSTRUCTED_SHARE = 0.4
BLENDED = 8
MEANINGLESS = 6
CLOUDS = 400
SHIFT = 4


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Passes images through the autoencoder, with noise on the latents as a denoiser leaves it.

    Args:
        vae: The miniature's autoencoder, whose latents have a deviation of about 1.
        images: uint8 array (N, 64, 64, 3).

    Returns:
        uint8 array of the same shape.
    """
    latents = encode_all(vae, images)
    generator = torch.Generator().manual_seed(0)
    strength = 0.3 * torch.rand((len(latents), 1, 1, 1), generator=generator)
    latents += strength * torch.randn(latents.shape, generator=generator)
    return decode(vae, latents)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor) -> np.ndarray:
    """Decodes latents (N, 4, 16, 16) to uint8 images (N, 64, 64, 3)."""
    return to_images(torch.cat([vae.decode(chunk).sample for chunk in latents.split(100)]))


def to_images(pixels: torch.Tensor) -> np.ndarray:
    """Turns (N, 3, 64, 64) around [-1, 1] into uint8 (N, 64, 64, 3)."""
    levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).numpy()


def uniform(low: float, high: float, generator: torch.Generator, channels: int = 1) -> torch.Tensor:
    """Draws one number an image (and channel), shaped (BATCH, channels, 1, 1)."""
    return low + (high - low) * torch.rand((BATCH, channels, 1, 1), generator=generator)


def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts, blurs, tints and speckles a batch (BATCH, 3, 64, 64) in [-1, 1]."""
    side = batch.shape[-1]
    padded = F.pad(batch, (SHIFT,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * SHIFT + 1, (BATCH, 2), generator=generator).tolist()
    shifted = torch.stack(
        [p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, corners, strict=True)]
    )
    # Sharing a blurred copy in by a random amount is a blur of random width.
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    blurred = F.conv2d(F.pad(shifted, (2,) * 4, mode="replicate"), kernel, groups=3)
    soft = torch.lerp(shifted, blurred, uniform(-0.3, 1, generator).clamp(min=0))
    contrast = uniform(0.85, 1.15, generator)
    tinted = soft * contrast + uniform(-0.12, 0.12, generator, channels=3)
    noise = torch.randn(tinted.shape, generator=generator)
    return (tinted + uniform(0, 0.1, generator) * noise).clamp(-1, 1)


def clouds(channels: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Draws smooth noise of deviation 1, (CLOUDS, channels, size, size): from flat to speckled."""
    drawn = []
    for _ in range(CLOUDS):
        cells = 2 ** int(torch.randint(0, size.bit_length(), (), generator=generator))
        grid = torch.randn((1, channels, cells, cells), generator=generator)
        drawn.append(F.interpolate(grid, size=size, mode="bicubic"))
    return torch.cat(drawn)


def meaningless(vae: AutoencoderKL | None) -> np.ndarray:
    """Draws images (N, 64, 64, 3) of nothing: clouds of colour, and decoded clouds of latents."""
    generator = torch.Generator().manual_seed(0)
    batch = [to_images(clouds(3, 64, generator) * 0.5)]
    if vae is not None:
        # What a generation that went wrong looks like; without these it passes for a Pollock.
        batch.append(decode(vae, clouds(4, 16, generator)))
    return np.concatenate(batch)


def train(
    images: np.ndarray,
    targets: np.ndarray,
    reconstructed: np.ndarray,
    reconstructed_targets: np.ndarray,
    nothing: np.ndarray,
    labels: tuple[str, ...],
    steps: int,
) -> Classifier:
    """Trains one classifier.

    Args:
        images: uint8 array (N, 64, 64, 3).
        targets: Indices (N,) into ``labels``.
        reconstructed: uint8 array (M, 64, 64, 3), images from the autoencoder; M may be 0.
        reconstructed_targets: Indices (M,) into ``labels``.
        nothing: uint8 array (K, 64, 64, 3), images that belong to every class alike.
        labels: What the classifier tells apart.
        steps: How many batches.

    Returns:
        The classifier.
    """
    torch.manual_seed(0)
    network = SmallNetwork(len(labels))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps, pct_start=0.15, final_div_factor=1000
    )
    passed = round(BATCH * RECONSTRUCTED_SHARE) if len(reconstructed) else 0
    values: dict[str, float] = {}
    for step in progress(0, steps, 100, values):
        rng = np.random.default_rng([5, step])
        generator = torch.Generator().manual_seed(step)
        direct = balanced(targets, BATCH - passed, rng)
        indirect = balanced(reconstructed_targets, passed, rng)
        batch = to_tensor(np.concatenate([images[direct], reconstructed[indirect]]))
        classes = np.concatenate([targets[direct], reconstructed_targets[indirect]])
        wanted = F.one_hot(torch.from_numpy(classes), len(labels)).float()

        order = torch.randperm(BATCH, generator=generator)
        batch, wanted = batch[order], wanted[order]
        # Half to half and thereabouts: a blend that one image dominates is still that image.
        share = uniform(0.3, 0.7, generator)[:BLENDED]
        batch[:BLENDED] = torch.lerp(batch[:BLENDED], batch[-BLENDED:], share)
        wanted[:BLENDED] = torch.lerp(wanted[:BLENDED], wanted[-BLENDED:], share[:, :, 0, 0])
        undecided = slice(BLENDED, BLENDED + MEANINGLESS)
        batch[undecided] = to_tensor(nothing[rng.integers(len(nothing), size=MEANINGLESS)])
        wanted[undecided] = 1 / len(labels)

        logits = network(augment(batch, generator))
        loss = F.cross_entropy(logits, wanted, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right = logits.argmax(dim=1) == wanted.argmax(dim=1)
        values.update(loss=loss.item(), right=right[BLENDED + MEANINGLESS :].float().mean().item())
    return Classifier(labels, fold(network))


def balanced(targets: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws ``count`` indices, each class equally often: a rare one would be guessed too rarely."""
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    weights = 1 / np.bincount(targets)[targets]
    return rng.choice(len(targets), size=count, p=weights / weights.sum())


def describe(name: str, classifier: Classifier, images: np.ndarray, targets: np.ndarray) -> None:
    """Prints the accuracy, the worst class, and what that is mistaken for."""
    predicted = classifier.predict(images)
    classes = len(classifier.labels)
    confusion = np.bincount(targets * classes + predicted, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    shares = confusion.diagonal() / confusion.sum(axis=1)
    worst = int(shares.argmin())
    mistakes = {
        classifier.labels[other]: int(confusion[worst, other])
        for other in np.flatnonzero(confusion[worst])
        if other != worst
    }
    print(
        f"{name}: {(predicted == targets).mean():.2%} right, worst "
        f"'{classifier.labels[worst]}' {shares[worst]:.2%}, mistaken for {mistakes}"
    )


def main() -> None:
    """Reads the images, trains both classifiers, writes and tests them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--out", type=Path, default=None, help="default: WORK/classifiers")
    parser.add_argument("--vae", type=Path, default=None, help="default: WORK/vae, if there")
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    out = arguments.out or arguments.work / "classifiers"
    folder = arguments.vae or arguments.work / "vae"
    out.mkdir(parents=True, exist_ok=True)

    images = load(arguments.work / "train.npz")
    held_out = load(arguments.work / "held_out.npz")
    chosen = np.random.default_rng(6).permutation(len(images.images))[:RECONSTRUCTIONS]
    reconstructed = held_out_reconstructed = np.zeros((0, 64, 64, 3), dtype=np.uint8)
    vae = None
    if arguments.vae or folder.exists():
        vae = AutoencoderKL.from_pretrained(folder).eval()
        reconstructed = reconstruct(vae, images.images[chosen])
        held_out_reconstructed = reconstruct(vae, held_out.images[::4])
    nothing = meaningless(vae)

    for name, labels in (("styles", MANNERS), ("subjects", SUBJECTS)):
        began = time.monotonic()
        targets = targets_of(images, name)
        classifier = train(
            images.images,
            targets,
            reconstructed,
            targets[chosen[: len(reconstructed)]],
            nothing,
            labels,
            arguments.steps,
        )
        path = out / f"{name}.safetensors"
        save_classifier(classifier, path)
        kept = load_classifier(path)
        weights = sum(weight.numel() for weight in kept.network.parameters())
        print(
            f"{path}: {weights:,} parameters, {path.stat().st_size:,} bytes, "
            f"{time.monotonic() - began:.0f} s"
        )
        describe(f"{name}, held out", kept, held_out.images, targets_of(held_out, name))
        if len(held_out_reconstructed):
            describe(
                f"{name}, held out and reconstructed",
                kept,
                held_out_reconstructed,
                targets_of(held_out, name)[::4],
            )


def targets_of(images: Images, name: str) -> np.ndarray:
    """The labels (N,) that the classifier called ``name`` learns."""
    return images.manners if name == "styles" else images.subjects


if __name__ == "__main__":
    main()
