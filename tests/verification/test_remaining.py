"""What is left of a concept: one where nothing happened, zero where it became its anchor."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.shift import ConceptShift
from shiftreg.verification import left_in_layers, remaining_checks
from tests.tiny import LAYER, WIDTH


def moving(delta: torch.Tensor) -> ConceptShift:
    """A shift of one layer by a delta of it."""
    return ConceptShift(
        concept="mo",
        aliases=(),
        kind="style",
        method="none",
        base_digest="0" * 64,
        text_encoder_digest="1" * 64,
        support=torch.zeros(0, WIDTH),
        factors={},
        dense={LAYER: delta.float()},
        protected=(),
        protected_digest="2" * 64,
    )


@given(st.floats(-1, 2), st.integers(0, 100))
def test_what_is_left_is_the_share_of_the_difference(share: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, WIDTH, generator=draw, dtype=torch.float64)
    row, anchor = torch.randn(2, 1, WIDTH, generator=draw, dtype=torch.float64)
    # Takes the share 1 - s of W (c - a) from what c is mapped to.
    delta = (share - 1) * torch.outer(weight @ (row - anchor)[0], row[0]) / row.square().sum()
    shift = moving(delta)
    assert left_in_layers({LAYER: weight}, shift, row, anchor) == pytest.approx(share, abs=1e-5)


def test_layers_that_a_shift_leaves_alone_count_as_they_are() -> None:
    weights = {LAYER: torch.eye(WIDTH), "another": torch.eye(WIDTH)}
    rows, anchors = torch.ones(1, WIDTH), torch.zeros(1, WIDTH)
    gone = moving(-torch.eye(WIDTH))
    assert left_in_layers(weights, gone, rows, anchors) == pytest.approx(0.5)


def test_a_share_above_the_gate_fails_and_says_what_it_means() -> None:
    low, high = remaining_checks({"a": 0.1, "b": 0.9}, 0.3)
    assert (low.passed, high.passed) == (True, False)
    assert "90% of what makes these prompts the concept's" in high.explanation
    assert high.explanation.endswith("it still generates.")
