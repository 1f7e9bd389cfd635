"""Least squares of a difference of weights on shifts: ``min_s |D - sum_k s_k delta_k|_F^2``.

Inner products are taken in factored form, ``<A_i Q_i, A_j Q_j>_F = sum (A_i' A_j) * (Q_i Q_j')``:
no delta of a low-rank shift is multiplied out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shiftreg.shift import ConceptShift

SIGNIFICANT = 5.0  # standard errors that a strength has to be away from nothing
FLOOR = 1e-13  # of an energy: what float32 differences and float64 sums cannot tell from nothing
ROUNDS = 10


class LeastSquares:
    """The inner products of a difference and shifts, each computed when it is needed.

    Shifts are named by their place. Only layers count that are known and that a shift reaches.

    Attributes:
        differences: Parameter -> ``D_l``.
        shifts: What may be inside.
        layers: Those that count.
        sizes: Their numbers of values.
        energies: ``|D_l|_F^2``.
        products: ``<D_l, delta_lk>_F (layers, shifts)``.
        norms: ``|delta_k|_F^2 (shifts,)``.
        noise: Variance that a value of a layer has by rounding.
        floor: An energy that is nothing.
    """

    def __init__(
        self,
        differences: Mapping[str, Tensor],
        shifts: Sequence[ConceptShift],
        rounding: Mapping[str, float],
    ) -> None:
        self.differences, self.shifts = differences, shifts
        reached = {layer for shift in shifts for layer in shift.layers}
        self.layers = tuple(layer for layer in differences if layer in reached)
        known = [differences[layer] for layer in self.layers]
        self.sizes = torch.tensor([float(d.numel()) for d in known], dtype=torch.float64)
        self.energies = torch.tensor([energy(d) for d in known], dtype=torch.float64)
        self.products = torch.zeros(len(known), len(shifts), dtype=torch.float64)
        for place, shift in enumerate(shifts):
            for row, layer in enumerate(self.layers):
                self.products[row, place] = with_difference(shift, layer, known[row])
        self.norms = torch.tensor(
            [float(with_shift(shift, shift, self.layers).sum()) for shift in shifts],
            dtype=torch.float64,
        )
        # Variance of a value, never nothing: an exact fit must not weigh infinitely.
        variances = torch.tensor(
            [rounding.get(layer, 0.0) ** 2 for layer in self.layers], dtype=torch.float64
        )
        size, whole = self.sizes.sum(), self.energies.sum()
        self.noise = variances + FLOOR * (self.energies / self.sizes + whole / size)
        self.floor = FLOOR * float(whole)
        self._columns: dict[int, Tensor] = {}

    def columns(self, chosen: Sequence[int]) -> Tensor:
        """Inner products of all shifts with the chosen ones, ``(layers, shifts, chosen)``."""
        for place in chosen:
            if place not in self._columns:
                products = [with_shift(s, self.shifts[place], self.layers) for s in self.shifts]
                self._columns[place] = torch.stack(products, dim=1)
        empty = self.products.new_zeros(*self.products.shape, 0)
        return torch.cat([empty, *(self._columns[p][..., None] for p in chosen)], dim=2)

    def left(self, chosen: Sequence[int]) -> float:
        """The energy that the chosen shifts leave at best, every value of equal weight."""
        gram = self.columns(chosen).sum(dim=0)[list(chosen)]
        products = self.products.sum(dim=0)[list(chosen)]
        return float(self.energies.sum() - products @ _inverse(gram) @ products)

    def added(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What would be left beside the chosen shifts with each one more, and its strength.

        Returns:
            Two vectors ``(shifts,)``; infinity and 0 for those that cannot be added: they are
            chosen, a combination of chosen ones, or change no layer that is known.
        """
        rows = list(chosen)
        columns, products = self.columns(chosen).sum(dim=0), self.products.sum(dim=0)
        inverse = _inverse(columns[rows])
        rest = products - columns @ (inverse @ products[rows])
        # Of each delta, the energy that is orthogonal to the chosen ones.
        own = self.norms - ((columns @ inverse) * columns).sum(dim=1)
        possible = own > 1e-9 * self.norms
        possible[rows] = False
        strengths = torch.where(possible, rest / own, 0.0)
        left = self.left(chosen) - strengths * rest
        return torch.where(possible, left, torch.inf), strengths

    def least_gain(self, left: float) -> float:
        """The energy that a shift has to explain to count."""
        noise = max(float(self.sizes @ self.noise), left) / max(float(self.sizes.sum()), 1.0)
        return SIGNIFICANT**2 * noise + self.floor

    def refined(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Strengths with each layer weighted by what is left in it, and their standard errors."""
        rows = list(chosen)
        gram, products = self.columns(chosen)[:, rows], self.products[:, rows]
        variances = torch.ones_like(self.noise)
        for _ in range(ROUNDS):
            weights = (1 / variances)[:, None]
            spread = _inverse((weights[..., None] * gram).sum(dim=0))
            strengths = spread @ (weights * products).sum(dim=0)
            left = self.energies - 2 * products @ strengths + gram @ strengths @ strengths
            variances = torch.maximum(left / self.sizes, self.noise)
        spread = _inverse((gram / variances[:, None, None]).sum(dim=0))
        scores = (products - gram @ strengths) / variances[:, None]  # (layers, chosen)
        free = max(len(self.layers) - 1, 1) / max(len(self.layers), 1)
        disagreement = spread @ (scores.T @ scores) @ spread / free
        errors = torch.maximum(spread.diagonal(), disagreement.diagonal()).clamp(min=0).sqrt()
        return strengths, errors

    def fit(self, terms: Sequence[tuple[ConceptShift, float]], position: int) -> float:
        """The share of the difference in a shift's own support that it explains.

        Args:
            terms: Shifts at their strengths.
            position: Of the shift among them.
        """
        shift, strength = terms[position]
        support = torch.linalg.qr(shift.support.double().T).Q  # (d_in, q)
        after = before = 0.0
        for layer in filter(lambda layer: reaches(shift, layer), self.layers):
            if layer in shift.dense:
                rest = rest_of(layer, self.differences[layer], terms)
                own = strength * shift.dense[layer].double()
            else:
                rest = self.differences[layer].double() @ support
                for one, value in terms:
                    if reaches(one, layer):
                        rest = rest - value * within(one, layer, support)
                own = strength * within(shift, layer, support)
            after, before = after + energy(rest), before + energy(rest + own)
        return 1 - after / before


def rest_of(layer: str, difference: Tensor, terms: Sequence[tuple[ConceptShift, float]]) -> Tensor:
    """What shifts at their strengths leave of a layer's difference, float64."""
    rest = difference.double()
    for shift, strength in terms:
        if reaches(shift, layer):
            rest = rest - strength * shift.delta_weight(layer)
    return rest


def _inverse(gram: Tensor) -> Tensor:
    """Inverse by way of a unit diagonal; the pseudo-inverse where shifts are all but the same."""
    if len(gram) == 0:
        return gram
    scale = gram.diagonal().sqrt().clamp(min=torch.finfo(gram.dtype).tiny)
    unit = torch.linalg.pinv(gram / scale / scale[:, None], rtol=1e-12, hermitian=True)
    return unit / scale / scale[:, None]


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
