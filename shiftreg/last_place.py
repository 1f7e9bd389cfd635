"""Units in the last place: how far rounding to a dtype can move a value, and how far it does."""

from __future__ import annotations

import torch
from torch import Tensor


def last_place(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance between neighbouring numbers of a dtype, beside each value.

    Args:
        values: Of any shape and dtype.
        dtype: A floating-point dtype.

    Returns:
        As the values, float64.
    """
    numbers = torch.finfo(dtype)
    _, exponents = torch.frexp(values.double().abs().clamp(min=numbers.tiny))
    # frexp's mantissas lie in [0.5, 1), and eps is the distance just above 1.
    return torch.ldexp(torch.ones_like(exponents, dtype=torch.float64), exponents - 1) * numbers.eps


def rounding_error(values: Tensor, dtype: torch.dtype) -> float:
    """Root mean square of the error of rounding values: of each, its last place over root 12."""
    return float((last_place(values, dtype).square().mean() / 12).sqrt())


def differs_by_rounding(
    value: Tensor, expected: Tensor, places: float, slack: Tensor | float = 0.0
) -> bool:
    """Whether no value is farther from what is expected than rounding explains.

    Rounding may move small values to make up for large ones, so the unit is that of the largest
    value of the same output.

    Args:
        value: ``(d_out, ...)`` in its own dtype.
        expected: Of the same shape, in float64.
        places: How many units of the last place are rounding.
        slack: What else may be added to each value's distance.
    """
    distance = (value.double() - expected).abs()
    outputs = len(value) if value.ndim > 1 else 1
    largest = torch.maximum(value.double().abs(), expected.abs()).reshape(outputs, -1)
    unit = last_place(largest.amax(dim=1), value.dtype)  # (outputs,)
    return bool((distance <= places * unit.reshape(-1, *[1] * (value.ndim - 1)) + slack).all())
