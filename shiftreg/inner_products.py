"""Inner products of shifts with one another and with dense differences, in factored form.

``<A_i Q_i, A_j Q_j>_F = sum (A_i' A_j) * (Q_i Q_j')``: no delta of a low-rank shift is multiplied
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shiftreg.shift import ConceptShift


def reaches(shift: ConceptShift, layer: str) -> bool:
    """Whether a shift changes a parameter."""
    return layer in shift.factors or layer in shift.dense


def energy(difference: Tensor) -> float:
    """``|D|_F^2`` in float64."""
    return float(difference.double().square().sum())


def with_difference(shift: ConceptShift, layer: str, difference: Tensor) -> float:
    """``<delta_l, D_l>_F``; 0 where the shift does not reach.

    Args:
        shift: Of any kind.
        layer: Name of the parameter.
        difference: ``D_l (d_out, d_in)``, or of the parameter's shape.
    """
    if layer in shift.dense:
        return float((difference.double() * shift.dense[layer].double()).sum())
    if layer in shift.factors:
        inside = difference.double() @ shift.support.double().T  # (d_out, q)
        return float((inside * shift.factors[layer].double()).sum())
    return 0.0


def with_shift(one: ConceptShift, other: ConceptShift, layers: Sequence[str]) -> Tensor:
    """``<delta_l, delta'_l>_F`` of two shifts.

    Returns:
        ``(layers,)`` float64; 0 where one of them does not reach.
    """
    products = torch.zeros(len(layers), dtype=torch.float64)
    supports = one.support.double() @ other.support.double().T  # (q, q')
    for row, layer in enumerate(layers):
        if not (reaches(one, layer) and reaches(other, layer)):
            continue
        if layer in one.dense:
            products[row] = with_difference(other, layer, one.dense[layer])
        elif layer in other.dense:
            products[row] = with_difference(one, layer, other.dense[layer])
        else:
            factors = one.factors[layer].double().T @ other.factors[layer].double()
            products[row] = (factors * supports).sum()
    return products


def within(shift: ConceptShift, layer: str, support: Tensor) -> Tensor:
    """``delta_l B``: a shift's delta in the coordinates of an orthonormal basis.

    Args:
        shift: One that reaches the layer.
        layer: Name of a matrix.
        support: ``B (d_in, q)``.

    Returns:
        ``(d_out, q)`` float64.
    """
    if layer in shift.dense:
        return shift.dense[layer].double() @ support
    return shift.factors[layer].double() @ (shift.support.double() @ support)
