"""The null space: nothing protected moves, and nothing more than needed is given up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError
from shiftreg.subspace import (
    leak,
    null_space_basis,
    relative_change,
    row_space_basis,
    tight_support,
)

shapes = st.tuples(st.integers(1, 30), st.integers(2, 24), st.integers(1, 24), st.integers(0, 9999))


def random_rows(count: int, width: int, rank: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rank = min(rank, count, width)
    left = torch.randn(count, rank, generator=generator, dtype=torch.float64)
    return left @ torch.randn(rank, width, generator=generator, dtype=torch.float64)


@given(shapes)
def test_the_basis_is_orthonormal_and_annihilates_the_rows(shape: tuple[int, ...]) -> None:
    rows = random_rows(*shape)
    basis = null_space_basis(rows)
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-10)
    assert (rows @ basis.T).abs().max() <= 1e-12 * rows.norm() if len(basis) else True


@given(shapes)
def test_the_basis_spans_what_scipy_finds(shape: tuple[int, ...]) -> None:
    rows = random_rows(*shape)
    ours = null_space_basis(rows, rtol=1e-9).numpy()
    theirs = scipy.linalg.null_space(rows.numpy(), rcond=1e-9).T
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.T @ ours, theirs.T @ theirs, atol=1e-7)


@given(shapes)
def test_row_space_and_null_space_complement_each_other(shape: tuple[int, ...]) -> None:
    rows = random_rows(*shape)
    together = torch.cat([row_space_basis(rows), null_space_basis(rows)])
    identity = torch.eye(rows.shape[1], dtype=torch.float64)
    assert torch.allclose(together @ together.T, identity, atol=1e-10)


def test_repeated_rows_cost_nothing() -> None:
    rows = random_rows(5, 12, 5, 0)
    assert null_space_basis(torch.cat([rows, rows, rows])).shape == null_space_basis(rows).shape


def test_nothing_protected_leaves_everything_free() -> None:
    assert torch.equal(null_space_basis(torch.zeros(0, 4)), torch.eye(4, dtype=torch.float64))
    assert null_space_basis(torch.zeros(3, 4)).shape == (4, 4)


@pytest.mark.parametrize("rows", [torch.zeros(3), torch.full((2, 2), float("nan"))])
def test_rows_that_are_no_finite_matrix_are_refused(rows: torch.Tensor) -> None:
    with pytest.raises(InvalidInputError):
        null_space_basis(rows)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 9999))
def test_the_tight_support_changes_the_concept_as_much_as_the_whole_null_space(
    protected: int, own: int, seed: int
) -> None:
    rows = random_rows(protected + own, 24, 24, seed)
    basis = null_space_basis(rows[:protected])
    concept = rows[protected:]
    support = tight_support(concept, basis)
    assert support.shape[0] <= own
    assert torch.allclose(support @ support.T, torch.eye(len(support), dtype=torch.float64))
    assert torch.allclose(concept @ support.T @ support, concept @ basis.T @ basis, atol=1e-8)


def test_a_concept_within_the_protected_span_has_no_support() -> None:
    rows = random_rows(6, 12, 6, 1)
    inside = rows[:2] + rows[2:4]
    assert tight_support(inside, null_space_basis(rows)).shape == (0, 12)


def test_leak_and_relative_change_are_ratios() -> None:
    weight = torch.eye(3)
    rows = torch.tensor([[1.0, 0.0, 0.0]])
    assert leak(rows, 0.5 * weight, weight) == pytest.approx(0.5)
    assert leak(rows, torch.diag(torch.tensor([0.0, 1.0, 1.0])), weight) == 0
    assert relative_change(2 * weight, weight) == pytest.approx(2)
