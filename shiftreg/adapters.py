"""Adapters: what shifts add to a model's weights, in pieces that a server multiplies by a strength.

A shift of the layers that see the text alone is ``A_l Q``: a LoRA as it is, with ``Q`` as its down
and ``A_l`` as its up. Shifts are stacked by their ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.errors import IncompatibleError
from shiftreg.rounding import ErrorCompensation
from shiftreg.shift import ConceptShift


@dataclass(frozen=True)
class Factors:
    """A change ``up @ down`` of one layer.

    Attributes:
        down: ``(r, d_in)`` float32; of a convolution ``d_in`` counts the kernel, too.
        up: ``(d_out, r)`` float32.
    """

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        """``r``."""
        return self.down.shape[0]

    def padded(self, rank: int) -> Factors:
        """The same change with more ranks, which do nothing."""
        missing = rank - self.rank
        if missing <= 0:
            return self
        pad = torch.nn.functional.pad
        return Factors(pad(self.down, (0, 0, 0, missing)), pad(self.up, (0, missing)))

    def product(self) -> Tensor:
        """The change in float64: ``(d_out, d_in)``."""
        return self.up.double() @ self.down.double()


def stacked_rank(shifts: Sequence[ConceptShift], layer: str) -> int | None:
    """The rank of the factors that hold a layer's change exactly; None if a shift is dense there.

    Args:
        shifts: In canonical order; those that do not change the layer count nothing.
    """
    touching = [shift for shift in shifts if layer in shift.layers]
    if any(layer in shift.dense for shift in touching):
        return None
    rank = sum(shift.rank for shift in touching)
    outputs = touching[0].factors[layer].shape[0]
    return min(rank, outputs, touching[0].support.shape[1])


def stacked_factors(shifts: Sequence[ConceptShift], layer: str) -> Factors:
    """The factors of a layer's change, no shift of which is dense there.

    They are the shifts' own, bit for bit, unless all of them together have more ranks than the
    layer has outputs or inputs: then one factor is the change itself, and the other does nothing.

    Raises:
        IncompatibleError: The shifts have another number of inputs or outputs.
    """
    touching = [shift for shift in shifts if layer in shift.factors]
    _check_same(layer, [(s.factors[layer].shape[0], s.support.shape[1]) for s in touching])
    down = torch.cat([shift.support for shift in touching])
    up = torch.cat([shift.factors[layer] for shift in touching], dim=1)
    outputs, inputs = up.shape[0], down.shape[1]
    if len(down) <= min(outputs, inputs):
        return Factors(down.contiguous(), up.contiguous())
    change = dense_change(touching, layer)
    return (
        Factors(change, torch.eye(outputs))
        if outputs <= inputs
        else Factors(torch.eye(inputs), change)
    )


def dense_change(shifts: Sequence[ConceptShift], parameter: str) -> Tensor:
    """What shifts add to a parameter: summed in float64, cast once to float32.

    Args:
        shifts: In canonical order.
        parameter: Its name, as ``ConceptShift`` has it.

    Raises:
        IncompatibleError: The shifts have it in different shapes.
    """
    touching = [shift for shift in shifts if parameter in shift.layers]
    if len(touching) == 1 and parameter in touching[0].dense:
        return touching[0].dense[parameter]
    total = touching[0].delta_weight(parameter)
    for shift in touching[1:]:
        delta = shift.delta_weight(parameter)
        _check_same(parameter, [tuple(total.shape), tuple(delta.shape)])
        total = total + delta
    return total.float()


def best_factors(change: Tensor, rank: int) -> tuple[Factors, float]:
    """The factors of a given rank that are nearest to a change.

    Args:
        change: ``(d_out, d_in, ...)``; what follows the outputs is flattened.
        rank: At most this one.

    Returns:
        The factors, and the share of the change's square that they hold.
    """
    matrix = change.double().flatten(1)  # (d_out, d_in)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = min(rank, len(values))
    root = values[:rank].sqrt()
    factors = Factors((root[:, None] * right[:rank]).float(), (left[:, :rank] * root).float())
    total = float(values.square().sum())
    return factors, float(values[:rank].square().sum()) / total if total else 1.0


def round_factors(
    factors: Factors, dtype: torch.dtype, protected: ErrorCompensation | None
) -> Factors:
    """Rounds factors so that what they protect stays protected.

    A protected row meets the down first, and is zero behind it: the down is rounded with error
    compensation against those rows, and the up is then fitted to the rounded down.

    Args:
        factors: In float32.
        dtype: To round to.
        protected: The rows that the factors do not move; None rounds plainly.

    Returns:
        Factors in that dtype.
    """
    if protected is None or not factors.rank:
        return Factors(factors.down.to(dtype), factors.up.to(dtype))
    down = protected.round(factors.down, dtype)
    # up' (down' down'.T) = up (down down'.T)
    wide = down.double()
    up = torch.linalg.lstsq(wide.T, factors.product().T).solution.T
    return Factors(down, up.to(dtype))


def _check_same(layer: str, shapes: Sequence[tuple[int, ...]]) -> None:
    if len(set(shapes)) > 1:
        raise IncompatibleError(
            f"The shifts change {layer} with different shapes, {shapes[0]} and "
            f"{next(shape for shape in shapes if shape != shapes[0])}. "
            "Erase the concepts on this base again."
        )
