"""Changes in factors: the shifts' own numbers, or the nearest of a lower rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shiftreg.adapters import (
    Factors,
    best_factors,
    dense_change,
    round_factors,
    stacked_factors,
    stacked_rank,
)
from shiftreg.errors import IncompatibleError
from shiftreg.rounding import ErrorCompensation
from shiftreg.shift import ConceptShift
from shiftreg.subspace import null_space_basis
from tests.tiny import LAYER, OTHER_LAYER


def other(shift: ConceptShift, seed: int = 7, **changes: object) -> ConceptShift:
    draw = torch.Generator().manual_seed(seed)
    fields = {
        "concept": f"other {seed}",
        "support": torch.randn(1, 5, generator=draw),
        "factors": {LAYER: torch.randn(3, 1, generator=draw)},
    }
    return replace(shift, **fields | changes)


def test_one_shift_is_its_own_factors_bit_for_bit(shift: ConceptShift) -> None:
    factors = stacked_factors([shift], LAYER)
    assert torch.equal(factors.down, shift.support)
    assert torch.equal(factors.up, shift.factors[LAYER])
    assert stacked_rank([shift], LAYER) == 2


def test_shifts_stack_by_their_ranks(shift: ConceptShift) -> None:
    both = [shift, other(shift)]
    factors = stacked_factors(both, LAYER)
    assert factors.rank == stacked_rank(both, LAYER) == 3
    assert torch.allclose(factors.product(), dense_change(both, LAYER).double(), atol=1e-6)
    assert stacked_factors(both, OTHER_LAYER).rank == 2  # which the second leaves alone


def test_more_ranks_than_outputs_become_the_change_itself(shift: ConceptShift) -> None:
    many = [shift, other(shift), other(shift, 8)]
    factors = stacked_factors(many, LAYER)
    assert factors.rank == stacked_rank(many, LAYER) == 3
    assert torch.equal(factors.up, torch.eye(3))
    assert torch.equal(factors.down, dense_change(many, LAYER))


def test_ranks_that_do_nothing_change_nothing(shift: ConceptShift) -> None:
    factors = stacked_factors([shift], LAYER)
    padded = factors.padded(5)
    assert padded.rank == 5
    assert torch.equal(padded.product(), factors.product())
    assert factors.padded(1) is factors


def test_a_dense_change_has_no_exact_rank(shift: ConceptShift) -> None:
    delta = torch.randn(3, 5)
    dense = replace(shift, factors={}, dense={LAYER: delta})
    assert stacked_rank([dense], LAYER) is None
    assert stacked_rank([dense, other(shift)], LAYER) is None
    assert torch.equal(dense_change([dense], LAYER), delta)


def test_the_best_factors_of_full_rank_are_the_change(shift: ConceptShift) -> None:
    change = torch.randn(4, 3, 3, 3)
    factors, kept = best_factors(change, 99)
    assert kept == 1
    assert torch.allclose(factors.product(), change.flatten(1).double(), atol=1e-6)
    half, kept = best_factors(change, 2)
    off = change.flatten(1).double() - half.product()
    assert 0 < kept < 1
    assert float(off.square().sum() / change.double().square().sum()) == pytest.approx(1 - kept)


def test_no_change_at_all_has_factors() -> None:
    factors, kept = best_factors(torch.zeros(3, 4), 2)
    assert kept == 1
    assert not factors.product().any()


def test_rounding_leaves_what_is_protected_alone() -> None:
    torch.manual_seed(0)
    protected = torch.randn(40, 96, dtype=torch.float64)
    support = null_space_basis(protected)[:12].float()
    up = torch.randn(30, 12)
    exact = Factors(support, up)
    plain = round_factors(exact, torch.float16, None)
    rounded = round_factors(exact, torch.float16, ErrorCompensation.of(protected))
    drift, plain_drift = ((protected @ f.product().T).norm() for f in (rounded, plain))
    assert drift < plain_drift / 10
    # Elsewhere the change is what it was, up to rounding.
    assert (rounded.product() - exact.product()).norm() < 2e-3 * exact.product().norm()
    assert rounded.down.dtype == rounded.up.dtype == torch.float16


def test_shifts_of_different_bases_do_not_stack(shift: ConceptShift) -> None:
    wider = other(shift, support=torch.randn(1, 6))
    with pytest.raises(IncompatibleError, match=r"different shapes"):
        stacked_factors([shift, wider], LAYER)
    with pytest.raises(IncompatibleError, match=r"different shapes"):
        dense_change([shift, wider], LAYER)
