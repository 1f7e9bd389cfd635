from __future__ import annotations

import pytest
import torch

from shiftreg.least_squares import energy, reaches, with_difference, with_shift, within
from shiftreg.shift import ConceptShift

LAYERS = ("factored", "dense", "mixed", "one only")
OUT, WIDTH = 5, 7


def shift_of(seed: int, factored: tuple[str, ...], dense: tuple[str, ...]) -> ConceptShift:
    draw = torch.Generator().manual_seed(seed)
    rank = seed + 1
    return ConceptShift(
        concept=f"concept {seed}",
        aliases=(),
        kind="style",
        method="closed-form",
        base_digest="b" * 64,
        text_encoder_digest="t" * 64,
        support=torch.randn(rank, WIDTH, generator=draw),
        factors={name: torch.randn(OUT, rank, generator=draw) for name in factored},
        dense={name: torch.randn(OUT, WIDTH, generator=draw) for name in dense},
        protected=(),
        protected_digest="",
    )


ONE = shift_of(1, ("factored", "mixed", "one only"), ("dense",))
OTHER = shift_of(2, ("factored",), ("dense", "mixed"))


@pytest.mark.parametrize(("one", "other"), [(ONE, OTHER), (OTHER, ONE), (ONE, ONE)])
def test_products_are_those_of_the_dense_deltas(one: ConceptShift, other: ConceptShift) -> None:
    expected = [
        float((one.delta_weight(layer) * other.delta_weight(layer)).sum())
        if reaches(one, layer) and reaches(other, layer)
        else 0.0
        for layer in LAYERS
    ]
    assert with_shift(one, other, LAYERS).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_products_with_a_difference_are_those_of_the_dense_delta(layer: str) -> None:
    difference = torch.randn(OUT, WIDTH, generator=torch.Generator().manual_seed(9))
    expected = float((ONE.delta_weight(layer) * difference.double()).sum())
    assert with_difference(ONE, layer, difference) == pytest.approx(expected, rel=1e-12)
    assert with_difference(ONE, "unknown", difference) == 0


def test_a_delta_in_other_coordinates() -> None:
    basis = torch.linalg.qr(torch.randn(WIDTH, 3, dtype=torch.float64)).Q
    for layer in ("factored", "dense"):
        assert torch.allclose(within(ONE, layer, basis), ONE.delta_weight(layer) @ basis)
    assert energy(basis) == pytest.approx(3)
