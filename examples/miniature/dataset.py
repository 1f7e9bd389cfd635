"""Renders the training images once, into one file, with a process pool.

python dataset.py --out work/images.npz
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manners import MANNERS, paint
from subjects import SUBJECTS

PLAIN_COPIES = 400
MANNER_COPIES = 120
HELD_OUT_COPIES = 20


@dataclass(frozen=True)
class Images:
    """Images with what they show: images (N, 64, 64, 3) uint8, labels (N,) into the tuples."""

    images: np.ndarray
    subjects: np.ndarray
    manners: np.ndarray


def _paint_cell(cell: tuple[int, int, int, int]) -> np.ndarray:
    subject, manner, copies, seed = cell
    rng = np.random.default_rng([seed, subject, manner])
    return np.stack([paint(SUBJECTS[subject], MANNERS[manner], rng) for _ in range(copies)])


def render(seed: int, copies: int, plain_copies: int, workers: int = 2) -> Images:
    """Paints ``copies`` images of every subject in every manner (``plain_copies`` if plain)."""
    cells = [
        (s, m, plain_copies if MANNERS[m] == "plain" else copies, seed)
        for s in range(len(SUBJECTS))
        for m in range(len(MANNERS))
    ]
    with ProcessPoolExecutor(workers) as pool:
        stacks = list(pool.map(_paint_cell, cells))
    sizes = [len(stack) for stack in stacks]
    return Images(
        images=np.concatenate(stacks),
        subjects=np.repeat([cell[0] for cell in cells], sizes),
        manners=np.repeat([cell[1] for cell in cells], sizes),
    )


def load(path: Path) -> Images:
    """Reads what :func:`main` wrote."""
    with np.load(path) as arrays:
        return Images(arrays["images"], arrays["subjects"], arrays["manners"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("work"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, seed, copies, plain in (
        ("train", 1, MANNER_COPIES, PLAIN_COPIES),
        ("held_out", 2, HELD_OUT_COPIES, HELD_OUT_COPIES),
    ):
        images = render(seed, copies, plain)
        np.savez(
            arguments.out / f"{name}.npz",
            images=images.images,
            subjects=images.subjects,
            manners=images.manners,
        )
        print(f"{name}: {len(images.images)} images")


if __name__ == "__main__":
    main()
