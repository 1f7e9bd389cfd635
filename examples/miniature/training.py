"""What the training scripts share: atomic checkpoints and a progress line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` so that an interruption leaves the previous checkpoint whole."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Reads a checkpoint, or returns None where there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None


def progress(start: int, steps: int, every: int, values: dict[str, float]) -> Iterator[int]:
    """Counts steps, and prints the running means of ``values`` with the time left."""
    began = time.monotonic()
    means: dict[str, float] = {}
    for step in range(start, steps):
        yield step
        for name, value in values.items():
            means[name] = 0.98 * means.get(name, value) + 0.02 * value
        if (step + 1) % every == 0:
            pace = (time.monotonic() - began) / (step + 1 - start)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
            left = pace * (steps - step - 1) / 60
            print(
                f"{step + 1}/{steps}  {shown}  {pace:.2f} s/step  {left:.0f} min left", flush=True
            )
