"""Null spaces of prompt embeddings: what may change without a protected prompt noticing.

Method: SRS-ME, weight decoupling ("Forget All That Should Be Forgotten"), with the null space by
singular value decomposition in float64 and the support narrowed to the concept's own rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError

RANK_RTOL = 1e-6


@dataclass(frozen=True)
class Capacity:
    """What the null space leaves for a concept, known before anything is trained.

    Attributes:
        width: ``d_in``, the width of a text embedding.
        rank: Dimensions that the protected prompts take.
        free: Dimensions that are left (``m``).
        support: Dimensions of them that the rows of the concept's names reach (``q``).
        predicted_residual: Share of the names' erasure target that no shift can meet, 0 to 1.
        predicted_ratio: Predicted ``max_l |delta_l|_F / |W_l|_F``.
    """

    width: int
    rank: int
    free: int
    support: int
    predicted_residual: float
    predicted_ratio: float


def row_space_basis(rows: Tensor, rtol: float = RANK_RTOL) -> Tensor:
    """Orthonormal basis of the space that rows span.

    Args:
        rows: ``(n, d_in)``, any float dtype.
        rtol: Singular values at most ``rtol`` times the largest count as zero.

    Returns:
        ``(r, d_in)`` float64, orthonormal rows.
    """
    _, basis, rank = _decompose(rows, rtol)
    return basis[:rank]


def null_space_basis(rows: Tensor, rtol: float = RANK_RTOL) -> Tensor:
    """Orthonormal basis ``S`` of the null space of protected rows: ``rows @ S.T == 0``.

    Any ``delta = w @ S`` leaves the keys and values of those rows as they were (SRS-ME, weight
    decoupling).

    Args:
        rows: ``(n, d_in)``, the stacked embeddings that must not be touched.
        rtol: Singular values at most ``rtol`` times the largest count as zero.

    Returns:
        ``(d_in - r, d_in)`` float64, orthonormal rows.
    """
    _, basis, rank = _decompose(rows, rtol)
    return basis[rank:]


def _decompose(rows: Tensor, rtol: float) -> tuple[Tensor, Tensor, int]:
    """Singular values, the full right basis ``(d_in, d_in)``, and the rank."""
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InvalidInputError(f"Rows must be a matrix (n, d_in); got shape {tuple(rows.shape)}.")
    if not torch.isfinite(rows).all():
        raise InvalidInputError("Rows must be finite; these hold NaN or infinity.")
    width = rows.shape[1]
    if len(rows) == 0:
        return rows.new_zeros(0).double(), torch.eye(width, dtype=torch.float64), 0
    # Of many rows only the right side is wanted: the full left one would have n x n entries.
    _, values, basis = torch.linalg.svd(rows.double(), full_matrices=len(rows) < width)
    rank = int((values > rtol * values[0]).sum()) if values[0] > 0 else 0
    return values, basis, rank


def tight_support(concept_rows: Tensor, null_basis: Tensor, rtol: float = RANK_RTOL) -> Tensor:
    """Narrows the null space to what the concept's own rows reach.

    The rest of ``w @ S`` cannot change the concept: it could only disturb other prompts.

    Args:
        concept_rows: ``C (n, d_in)``, rows of the concept's prompts.
        null_basis: ``S (m, d_in)``, orthonormal.
        rtol: Relative rank tolerance.

    Returns:
        ``Q (q, d_in)`` float64, orthonormal rows within the span of ``S``.
    """
    coordinates = concept_rows.double() @ null_basis.T  # (n, m)
    if null_basis.shape[0] == 0:
        return null_basis
    # Relative to the rows themselves: a concept inside the protected span has no support at all,
    # whatever the size of its rounding noise.
    scale = torch.linalg.matrix_norm(concept_rows.double(), ord=2)
    _, values, right = torch.linalg.svd(coordinates, full_matrices=False)
    return right[values > rtol * scale] @ null_basis


def project_rows(
    deltas: Mapping[str, Tensor], null_basis: Tensor, rtol: float = 1e-7
) -> tuple[Tensor, dict[str, Tensor]]:
    """Right-projects weight changes into a null space: ``delta' = delta S'S``, in factors.

    Args:
        deltas: Layer name -> ``(d_out, d_in)``.
        null_basis: ``S (m, d_in)``, orthonormal.
        rtol: Directions whose singular value is at most this share of the largest are left out.

    Returns:
        One support ``Q (q, d_in)`` for all layers, and layer name -> ``A (d_out, q)``, float64,
        with ``A Q = delta S'S``.
    """
    inside = {name: delta.double() @ null_basis.T for name, delta in deltas.items()}  # (d_out, m)
    if len(null_basis) == 0:
        return null_basis, inside
    gram = torch.stack([a.T @ a for a in inside.values()]).sum(dim=0)
    values, vectors = torch.linalg.eigh(gram)
    used = vectors[:, values > rtol**2 * values.max().clamp(min=0)]  # (m, q)
    return used.T @ null_basis, {name: a @ used for name, a in inside.items()}


def relative_change(delta_weight: Tensor, weight: Tensor) -> float:
    """``|delta|_F / |W|_F``."""
    return float(delta_weight.double().norm() / weight.double().norm())


def drift(rows: Tensor, delta_weight: Tensor, weight: Tensor) -> float:
    """Relative change of the keys or values of a prompt: ``|e delta.T|_F / |e W.T|_F``.

    Args:
        rows: ``e (L, d_in)``, one prompt.
        delta_weight: ``(d_out, d_in)``.
        weight: ``(d_out, d_in)``.
    """
    rows = rows.double()
    return float((rows @ delta_weight.double().T).norm() / (rows @ weight.double().T).norm())


def drifts(embeds: Tensor, delta_weight: Tensor, weight: Tensor) -> Tensor:
    """:func:`drift` of many prompts at once.

    Args:
        embeds: ``(n, L, d_in)``.
        delta_weight: ``(d_out, d_in)``.
        weight: ``(d_out, d_in)``.

    Returns:
        ``(n,)`` float64.
    """
    embeds = embeds.double()
    moved = (embeds @ delta_weight.double().T).flatten(1).norm(dim=1)
    return moved / (embeds @ weight.double().T).flatten(1).norm(dim=1)
