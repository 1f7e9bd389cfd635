"""Batches of pictures as tasks that any process can do, and any engine can share out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from shiftreg import pipelines
from shiftreg.api.base_at_hand import BaseAtHand, recorded_base
from shiftreg.compose import Composition, merged_weights
from shiftreg.engines import Engine, InProcess
from shiftreg.registry import BaseRecord


@dataclass(frozen=True)
class Draw:
    """Noise to begin with: one slice of what a seed draws at once.

    Attributes:
        seed: Of the generator.
        count: Slices that are drawn.
        number: Which of them.
    """

    seed: int
    count: int
    number: int


@dataclass(frozen=True)
class Batch:
    """Pictures that are painted together: how many they are decides how sums are rounded.

    Attributes:
        record: Of the base.
        composition: Whose weights paint; one without shifts is the base.
        prompts: One a picture.
        seeds: One a picture.
        steps: Denoising steps.
        guidance: Guidance scale.
        draws: One a picture, in place of the seeds' own noise.
    """

    record: BaseRecord
    composition: Composition
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    draws: tuple[Draw, ...] | None = None


def paint_batches(
    place: BaseAtHand,
    batches: Sequence[Batch],
    engine: Engine,
    painted: Callable[[int, np.ndarray], None],
) -> None:
    """Paints batches, the same pictures wherever it is done.

    Args:
        place: The base, for batches that are painted here.
        batches: What to paint.
        engine: Where.
        painted: Given each batch's number and pictures, uint8 ``(n, H, W, 3)``, in this process, in
            the order in which they are done.

    Raises:
        ShiftregError: A batch could not be painted; the others were.
    """
    receiver = _Receiver(painted)
    here = partial(paint_batch, place) if isinstance(engine, InProcess) else None
    engine.run(batches, here or _paint_anywhere, receiver)
    if receiver.errors:
        raise receiver.errors[0]


@torch.no_grad()
def paint_batch(
    place: BaseAtHand, batch: Batch, _tell: Callable[[object], None] | None = None
) -> np.ndarray:
    """Paints one batch, uint8 ``(n, H, W, 3)``."""
    pipeline, network = place.pipeline, place.network
    weights = merged_weights(pipelines.parameters(network), batch.composition)
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


def _paint_anywhere(batch: Batch, _tell: Callable[[object], None]) -> np.ndarray:
    """Paints in a process that has nothing but the batch."""
    return paint_batch(recorded_base(batch.record), batch)


class _Receiver:
    """Hands pictures on, and keeps what went wrong."""

    def __init__(self, painted: Callable[[int, np.ndarray], None]) -> None:
        self.errors: list[Exception] = []
        self._painted = painted

    def started(self, number: int) -> None:
        """Nothing to do."""

    def told(self, number: int, report: Any) -> None:
        """Batches report nothing but their pictures."""

    def finished(self, number: int, result: np.ndarray) -> None:
        """Hands the pictures on."""
        self._painted(number, result)

    def failed(self, number: int, error: Exception) -> None:
        """Keeps the reason."""
        self.errors.append(error)
