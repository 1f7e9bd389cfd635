"""Batches of images as tasks that any process can do, and any engine can share out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg import pipelines
from shiftreg.api.loaded_base import LoadedBase, recorded_base
from shiftreg.compose import Composition, merged_weights
from shiftreg.engines import Engine, InProcess
from shiftreg.registry import BaseRecord

Merged = dict[str, dict[str, Tensor]]
"""Digest of a composition -> its merged weights."""
_MERGED: Merged = {}  # of this process, where it works for others


@dataclass(frozen=True)
class Draw:
    """Noise to begin with: one slice of what a seed draws at once.

    Attributes:
        count: Slices that are drawn.
    """

    seed: int
    count: int
    number: int


@dataclass(frozen=True)
class Batch:
    """Images that are generated together: how many they are decides how sums are rounded.

    Attributes:
        composition: Whose weights generate; one without shifts is the base.
        prompts: One an image.
        seeds: One an image.
        draws: One an image, in place of the seeds' own noise.
    """

    record: BaseRecord
    composition: Composition
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    draws: tuple[Draw, ...] | None = None


def generate_batches(
    base: LoadedBase,
    batches: Sequence[Batch],
    engine: Engine,
    generated: Callable[[int, np.ndarray], None],
) -> None:
    """Generates batches, the same images wherever it is done.

    Args:
        base: For batches that are generated here.
        generated: Given each batch's number and images, uint8 ``(n, H, W, 3)``, in this process, in
            the order in which they are done.

    Raises:
        ShiftregError: A batch could not be generated; the others were.
    """
    receiver = _Receiver(generated)
    here = partial(_generate, base, {}) if isinstance(engine, InProcess) else None
    # Digested here once: it goes along to other processes, which would digest all shifts again.
    _ = {batch.composition.digest for batch in batches}
    engine.run(batches, here or _generate_anywhere, receiver)
    if receiver.errors:
        raise receiver.errors[0]


@torch.no_grad()
def _generate(
    base: LoadedBase, merged: Merged, batch: Batch, _notify: Callable[[object], None]
) -> np.ndarray:
    """Generates one batch, uint8 ``(n, H, W, 3)``, and keeps the weights that it merged."""
    pipeline, network = base.pipeline, base.network
    weights: dict[str, Tensor] = {}
    if batch.composition.shifts:
        digest = batch.composition.digest
        if digest not in merged:
            merged.clear()  # those of one composition are enough to hold
            merged[digest] = merged_weights(pipelines.parameters(network), batch.composition)
        weights = merged[digest]
    noise = None
    if batch.draws is not None:
        drawn = {
            (draw.seed, draw.count): pipelines.starting_noise(pipeline, draw.seed, draw.count)
            for draw in batch.draws
        }
        noise = torch.stack([drawn[d.seed, d.count][d.number] for d in batch.draws])  # (n, C, h, w)
    with pipelines.applied_weights(network, weights):
        return pipelines.generate(
            pipeline,
            batch.prompts,
            batch.seeds,
            steps=batch.steps,
            guidance=batch.guidance,
            noise=noise,
        )


def _generate_anywhere(batch: Batch, notify: Callable[[object], None]) -> np.ndarray:
    """Generates in a process that has nothing but the batch."""
    return _generate(recorded_base(batch.record), _MERGED, batch, notify)


class _Receiver:
    """Hands images on, and keeps what went wrong."""

    def __init__(self, generated: Callable[[int, np.ndarray], None]) -> None:
        self.errors: list[Exception] = []
        self._generated = generated

    def started(self, number: int) -> None:
        """Nothing to do."""

    def reported(self, number: int, report: Any) -> None:
        """Batches report nothing but their images."""

    def finished(self, number: int, result: np.ndarray) -> None:
        """Hands the images on."""
        self._generated(number, result)

    def failed(self, number: int, error: Exception) -> None:
        """Keeps the reason."""
        self.errors.append(error)
