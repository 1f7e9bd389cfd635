"""The null space: nothing protected moves, and nothing more than needed is given up."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError
from shiftreg.subspace import (
    drift,
    null_space_basis,
    project_rows,
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


@given(shapes, st.integers(1, 3), st.integers(0, 9999))
def test_the_projection_of_changes_is_what_its_factors_multiply_to(
    shape: tuple[int, ...], layers: int, seed: int
) -> None:
    rows = random_rows(*shape)
    width = rows.shape[1]
    basis = null_space_basis(rows)
    assume(len(basis) > 0)
    deltas = {f"{i}": random_rows(5 + i, width, 1 + seed % 9, seed + i) for i in range(layers)}
    support, factors = project_rows(deltas, basis)
    assert factors.keys() == deltas.keys()
    assert torch.allclose(
        support @ support.T, torch.eye(len(support), dtype=torch.float64), atol=1e-10
    )
    for name, delta in deltas.items():
        projected = factors[name] @ support
        assert (projected - delta @ basis.T @ basis).norm() <= 1e-6 * delta.norm()
        # Exact to rounding, whatever was left out of the support: protected rows stay as they are.
        assert (rows @ projected.T).norm() <= 1e-10 * rows.norm() * delta.norm()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 9999))
def test_the_projection_s_support_is_no_wider_than_the_changes_together(
    rank: int, other_rank: int, seed: int
) -> None:
    basis = null_space_basis(random_rows(6, 24, 6, seed))
    deltas = {
        "a": random_rows(10, 24, rank, seed + 1),
        "b": random_rows(12, 24, other_rank, seed + 2),
    }
    support, _ = project_rows(deltas, basis)
    assert len(support) == rank + other_rank
    again, _ = project_rows(deltas | {"c": 3 * deltas["a"]}, basis)
    assert len(again) == rank + other_rank


def test_directions_are_left_out_by_their_share_of_the_largest() -> None:
    basis = torch.eye(6, dtype=torch.float64)[:4]
    change = torch.zeros(4, 6, dtype=torch.float64)
    change.diagonal().copy_(torch.tensor([1.0, 1e-3, 1e-6, 1e-9]))
    assert [len(project_rows({"a": change}, basis, rtol)[0]) for rtol in (1e-2, 1e-5)] == [1, 2]
    support, factors = project_rows({"a": change}, basis)
    assert len(support) == 3
    assert torch.allclose(factors["a"] @ support, change, atol=2e-9)


def test_changes_in_single_precision_keep_their_low_rank() -> None:
    deltas = {"a": random_rows(10, 24, 3, 0).float(), "b": random_rows(10, 24, 2, 1).float()}
    support, factors = project_rows(deltas, null_space_basis(random_rows(6, 24, 6, 2)), rtol=1e-5)
    assert len(support) == 5
    assert factors["a"].dtype == support.dtype == torch.float64


def test_a_change_within_the_null_space_is_kept_whole_and_one_outside_not_at_all() -> None:
    rows = random_rows(6, 24, 6, 3)
    basis = null_space_basis(rows)
    inside = random_rows(5, 18, 2, 4) @ basis
    support, factors = project_rows({"a": inside}, basis)
    assert torch.allclose(factors["a"] @ support, inside, atol=1e-10)
    outside = random_rows(5, 6, 2, 5) @ rows
    support, factors = project_rows({"a": outside}, basis)
    assert (factors["a"] @ support).norm() <= 1e-10 * outside.norm()


def test_no_change_has_no_support() -> None:
    support, factors = project_rows({"a": torch.zeros(3, 6)}, null_space_basis(torch.eye(6)[:2]))
    assert (support.shape, factors["a"].shape) == ((0, 6), (3, 0))


def test_with_nothing_free_there_is_no_support() -> None:
    support, factors = project_rows({"a": torch.ones(3, 6)}, null_space_basis(torch.eye(6)))
    assert (support.shape, factors["a"].shape) == ((0, 6), (3, 0))


def test_drift_and_relative_change_are_ratios() -> None:
    weight = torch.eye(3)
    rows = torch.tensor([[1.0, 0.0, 0.0]])
    assert drift(rows, 0.5 * weight, weight) == pytest.approx(0.5)
    assert drift(rows, torch.diag(torch.tensor([0.0, 1.0, 1.0])), weight) == 0
    assert relative_change(2 * weight, weight) == pytest.approx(2)
