"""Averages with what they could as well have been: bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shiftreg.errors import InvalidInputError

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """An average over pictures, with its 95% interval.

    Attributes:
        value: The average.
        low: Lower end of the interval.
        high: Upper end of the interval.
        count: Pictures.
    """

    value: float
    low: float
    high: float
    count: int


def mean(values: np.ndarray, seed: int = 0) -> Estimate:
    """An average with its percentile bootstrap interval (Efron, 1979).

    Args:
        values: ``(n,)`` numbers.
        seed: Of the resampling.

    Raises:
        InvalidInputError: No values.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise InvalidInputError(
            f"An average needs at least one picture, and got shape {values.shape}. Generate some."
        )
    generator = np.random.default_rng(seed)
    picks = generator.integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[picks].mean(axis=1), [tail, 1 - tail])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def rate(hits: np.ndarray, seed: int = 0) -> Estimate:
    """A share of pictures with its bootstrap interval.

    Where all pictures agree, every resample does too, and the bootstrap would claim certainty.
    There the interval ends where so many equal pictures would be seen in one trial of forty:
    ``(1 - p)^n = (1 - 0.95) / 2`` (Clopper and Pearson, 1934).

    Args:
        hits: ``(n,)`` bool.
        seed: Of the resampling.

    Raises:
        InvalidInputError: No pictures.
    """
    estimate = mean(np.asarray(hits, dtype=bool), seed)
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / estimate.count)
    if estimate.value == 0:
        return Estimate(0.0, 0.0, unseen, estimate.count)
    if estimate.value == 1:
        return Estimate(1.0, 1 - unseen, 1.0, estimate.count)
    return estimate
