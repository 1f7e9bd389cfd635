"""Averages with what they could as well have been: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shiftreg.errors import InvalidInputError

CONFIDENCE = 0.95
RESAMPLES = 2000
_BLOCK = 2**20  # numbers that are drawn at a time


@dataclass(frozen=True)
class Estimate:
    """An average over images, with its 95% interval.

    Attributes:
        count: Images. Of a single one, nothing shows how much an average would vary: the interval
            of its :func:`mean` is the value alone, and says nothing.
    """

    value: float
    low: float
    high: float
    count: int


def mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """An average of ``(n,)`` numbers with its percentile bootstrap interval (Efron, 1979).

    It rests on how different the values are: where all are equal, and so of a single one, it is no
    wider than a point, which is not certainty.

    Raises:
        InvalidInputError: No values.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise InvalidInputError(
            f"An average needs at least one image, and got shape {values.shape}. Generate some."
        )
    generator = np.random.default_rng(seed)
    count = len(values)
    rows = max(1, _BLOCK // count)
    # Blocks go on in one stream of random numbers: their size does not change the result.
    blocks = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    averages = [values[generator.integers(count, size=(n, count))].mean(axis=1) for n in blocks]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(averages), [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high), count)


def rate(hits: np.ndarray, seed: int = 0) -> Estimate:
    """A share of images, of ``hits (n,)`` bool, with its bootstrap interval.

    Where all images agree, every resample does too, and the bootstrap would claim certainty.
    There the interval ends where so many equal images would be seen in one trial of forty:
    ``(1 - p)^n = (1 - 0.95) / 2`` (Clopper and Pearson, 1934).

    Raises:
        InvalidInputError: No images.
    """
    estimate = mean(np.asarray(hits, dtype=bool), seed)
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / estimate.count)
    if estimate.value == 0:
        return Estimate(0.0, 0.0, unseen, estimate.count)
    if estimate.value == 1:
        return Estimate(1.0, 1 - unseen, 1.0, estimate.count)
    return estimate


def pooled_rate(rates: Sequence[Estimate]) -> Estimate:
    """The share in all images of several cells, each of :func:`rate`, with its interval.

    Raises:
        InvalidInputError: No cells.
    """
    count = sum(cell.count for cell in rates)
    hits = sum(round(cell.value * cell.count) for cell in rates)
    return rate(np.arange(count) < hits)
