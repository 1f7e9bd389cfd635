"""Rounding to half precision without losing what a shift protects.

Rounding moves every weight by up to half a step of the dtype's grid, and the products with
protected rows by the sum of those moves. The sum can be kept near zero: each entry is rounded in
turn, and what that does to the products is made up for by the entries still to come. Those that
do most harm go first; the grid is finest near zero, so small entries settle the rest.

Method: nearest planes of a lattice (Babai 1986), which quantisation knows as GPTQ (Frantar et al.
2023); here every output has an order of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.subspace import drift

DAMPING = 1e-4
FINE_ENTRIES = 128
REACH = 8

_BLOCK = 64
_OUTPUTS = 320


def round_compensated(
    weight: Tensor,
    protected_rows: Tensor,
    dtype: torch.dtype,
    *,
    reference: Tensor | None = None,
    fine_entries: int = FINE_ENTRIES,
) -> Tensor:
    """Rounds a weight so that protected rows get the products of a reference.

    Args:
        weight: ``W (d_out, d_in)``, the exact value; the result stays near it.
        protected_rows: ``E (k, d_in)``. None of them: plain rounding.
        dtype: To round to, such as ``torch.float16``.
        reference: ``(d_out, d_in)``, whose products ``E reference.T`` are wanted; the weight by
            default. For a shift on a base that is deployed in half precision, give the rounded
            base plus the delta: a protected row then gets what the rounded base gives it.
        fine_entries: How many entries of each output have an order of their own. More keep the
            products better where many directions are protected, and cost their cube.

    Returns:
        ``(d_out, d_in)`` in the dtype. No output's ``|E (result - reference).T|`` is larger than
        plain rounding would leave it, and no entry moves by more than ``REACH`` of the largest
        steps of its output beyond what the reference asks for.

    Raises:
        InvalidInputError: Shapes do not fit, numbers are not finite or do not fit into the dtype.
    """
    compensation = ErrorCompensation.of(protected_rows, fine_entries=fine_entries)
    return compensation.round(weight, dtype, reference=reference)


def residual(rounded: Tensor, reference: Tensor, protected_rows: Tensor) -> float:
    """How far rounding moves protected rows: ``|E (rounded - reference).T| / |E reference.T|``.

    Args:
        rounded: ``(d_out, d_in)``, of any dtype.
        reference: ``(d_out, d_in)``, what it should be for those rows.
        protected_rows: ``E (k, d_in)``.
    """
    return drift(protected_rows, rounded.double() - reference.double(), reference)


@dataclass(frozen=True)
class Rounded:
    """A rounded weight, and how far rounding moved the products of protected rows.

    Attributes:
        value: ``(d_out, d_in)`` in the dtype.
        plain: What plain rounding leaves, ``|E (plain - reference).T| / |E reference.T|``.
        residual: What is left.
    """

    value: Tensor
    plain: float
    residual: float


@dataclass(frozen=True)
class ErrorCompensation:
    """What rounding has to know of protected rows; the same for all layers.

    Attributes:
        gram: ``E'E (d_in, d_in)`` float64, scaled to a mean diagonal of 1.
        fine_entries: How many entries of each output have an order of their own.
        damped: ``gram`` with the damping on its diagonal, which keeps entries from moving far for
            directions that hardly matter.
        order: ``(d_in,)``, the columns from the shortest to the longest.
        lower: ``(d_in, d_in)``, the Cholesky factor of ``damped`` in that order.
    """

    gram: Tensor
    fine_entries: int
    damped: Tensor
    order: Tensor
    lower: Tensor

    @classmethod
    def of(
        cls, protected_rows: Tensor, *, fine_entries: int = FINE_ENTRIES, damping: float = DAMPING
    ) -> ErrorCompensation:
        """Prepares rounding.

        Args:
            protected_rows: ``E (k, d_in)``; a row counts by its length, and a repeated one again.
            fine_entries: See :func:`round_compensated`.
            damping: Of directions, in units of the mean square of a column.

        Raises:
            InvalidInputError: No matrix, or numbers that are not finite.
        """
        if protected_rows.ndim != 2 or not torch.isfinite(protected_rows).all():
            raise InvalidInputError(
                "Protected rows must be a matrix (k, d_in) of finite numbers; got shape "
                f"{tuple(protected_rows.shape)}."
            )
        rows = protected_rows.double()
        gram = rows.T @ rows
        if gram.any():
            gram = gram / gram.diagonal().mean()
        order = gram.diagonal().argsort(stable=True)
        damped = gram + damping * torch.eye(len(gram), dtype=gram.dtype)
        lower = torch.linalg.cholesky(damped[order][:, order])
        return cls(gram, fine_entries, damped, order, lower)

    def round(
        self, weight: Tensor, dtype: torch.dtype, *, reference: Tensor | None = None
    ) -> Tensor:
        """Rounds one layer's weight; see :func:`round_compensated`."""
        return self.rounded(weight, dtype, reference=reference).value

    def rounded(
        self, weight: Tensor, dtype: torch.dtype, *, reference: Tensor | None = None
    ) -> Rounded:
        """The same, with what rounding did to the products."""
        weight = weight.double()
        reference = weight if reference is None else reference.double()
        self._check(weight, reference, dtype)
        plain = weight.to(dtype)
        plain_error, size = self._error(plain, reference), self._error(reference)
        if not self.gram.any():
            return Rounded(plain, 0.0, 0.0)
        # The best of all real numbers: the reference's products, and otherwise as the weight is.
        target = weight if reference is weight else weight + self._smallest(reference - weight)
        parts = target.split(_OUTPUTS)
        rounded = torch.cat([self._on_grid(part, dtype) for part in parts])
        moved = (rounded.double() - target).abs().amax(dim=1)
        error = self._error(rounded, reference)
        better = error <= plain_error
        better &= moved <= REACH * grid_step(target, dtype).amax(dim=1)
        return Rounded(
            torch.where(better[:, None], rounded, plain),
            plain=_share(plain_error, size),
            residual=_share(torch.where(better, error, plain_error), size),
        )

    def residual(self, rounded: Tensor, reference: Tensor) -> float:
        """The same as :func:`residual`, without the rows."""
        return _share(self._error(rounded, reference), self._error(reference))

    def _check(self, weight: Tensor, reference: Tensor, dtype: torch.dtype) -> None:
        width = len(self.gram)
        if weight.ndim != 2 or weight.shape[1] != width or reference.shape != weight.shape:
            raise InvalidInputError(
                f"Rows of width {width} protect weights (d_out, {width}) with references of their "
                f"shape; got {tuple(weight.shape)} and {tuple(reference.shape)}."
            )
        largest = max((float(t.abs().max()) for t in (weight, reference) if t.numel()), default=0)
        if not largest <= torch.finfo(dtype).max:  # or NaN
            raise InvalidInputError(
                f"Values up to {largest:g} do not fit into {dtype}. Use float32 or bfloat16."
            )

    def _on_grid(self, target: Tensor, dtype: torch.dtype) -> Tensor:
        """Rounds outputs ``(b, d_in)``: coarse entries in one order for all, then the fine ones."""
        # What rounding an entry does to the products: its step, times the length of its column.
        harm = grid_step(target, dtype) * self.gram.diagonal().sqrt()
        fine = harm.argsort(dim=1, stable=True)[:, : self.fine_entries]  # (b, n), the least first
        is_fine = torch.zeros_like(target, dtype=torch.bool).scatter_(1, fine, True)
        coarse = torch.empty_like(target)
        coarse[:, self.order] = _nearest_plane(
            target[:, self.order], self.lower, dtype, ~is_fine[:, self.order]
        )
        # The carried errors found their places in one order; the fine entries start afresh.
        errors = torch.where(is_fine, 0.0, coarse - target) @ self.gram
        places = fine[:, :, None] * len(self.damped) + fine[:, None, :]  # (b, n, n)
        lower = torch.linalg.cholesky(self.damped.take(places))
        change = torch.cholesky_solve(errors.gather(1, fine)[:, :, None], lower)[:, :, 0]
        settled = _nearest_plane(target.gather(1, fine) - change, lower, dtype)
        return coarse.scatter(1, fine, settled).to(dtype)

    def _smallest(self, change: Tensor) -> Tensor:
        """The smallest change with the same products, up to the damping: ``(d_out, d_in)``."""
        pull = (change @ self.gram)[:, self.order]
        smallest = torch.empty_like(change)
        smallest[:, self.order] = torch.cholesky_solve(pull.T, self.lower).T
        return smallest

    def _error(self, value: Tensor, reference: Tensor | float = 0.0) -> Tensor:
        """``|E (value - reference).T|^2`` of each output, scaled: ``(d_out,)``."""
        off = value.double() - reference
        return ((off @ self.gram) * off).sum(dim=1)


def grid_step(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Distance between neighbours on a dtype's grid, at each value: float64, of their shape."""
    info = torch.finfo(dtype)
    _, exponent = torch.frexp(values.double().abs().clamp(min=info.tiny))
    return info.eps * torch.exp2(exponent.double() - 1)


def _share(errors: Tensor, sizes: Tensor) -> float:
    """Root of the squared errors of all outputs, relative to their size."""
    error, size = float(errors.sum().clamp(min=0)), float(sizes.sum())
    return (error / size) ** 0.5 if size > 0 else 0.0


def _nearest_plane(
    target: Tensor, lower: Tensor, dtype: torch.dtype, rounds: Tensor | None = None
) -> Tensor:
    """Rounds entries from the last to the first, each made up for by those before it.

    Args:
        target: ``(b, n)`` float64.
        lower: The Cholesky factor ``(n, n)`` for all outputs, or ``(b, n, n)``: of the error of
            column ``k``, column ``j < k`` takes over ``lower[k, j] / lower[j, j]``.
        dtype: To round to.
        rounds: ``(b, n)``, which entries to round; the others only take over. All by default.

    Returns:
        ``(b, n)`` float64.
    """
    limit = torch.finfo(dtype).max
    result, errors, carried = (torch.zeros_like(target) for _ in range(3))
    diagonal = lower.diagonal(dim1=-2, dim2=-1).expand_as(target)
    for stop in range(target.shape[1], 0, -_BLOCK):
        start = max(0, stop - _BLOCK)
        for k in reversed(range(start, stop)):
            taken = target[:, k] + carried[:, k] / diagonal[:, k]
            value = taken.clamp(-limit, limit).to(dtype).double()
            result[:, k] = value if rounds is None else value.where(rounds[:, k], taken)
            errors[:, k] = target[:, k] - result[:, k]
            carried[:, start:k] += errors[:, k, None] * lower[..., k, start:k]
        # To the columns before the block all at once.
        carried[:, :start] += (errors[:, None, start:stop] @ lower[..., start:stop, :start])[:, 0]
    return result


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
