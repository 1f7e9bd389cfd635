"""Differences made of known shifts are taken apart again; what is not made of them is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shiftreg.errors import IncompatibleError, InvalidInputError
from shiftreg.inspection import Explanation, explain
from shiftreg.rounding import rounding_error
from shiftreg.shift import ConceptShift

WIDTH, OUT, RANK = 24, 16, 4
LAYERS = ("a.to_k", "a.to_v", "b.to_k", "b.to_v", "c.to_k")
DENSE = {"conv": (6, 3, 3, 3), "conv.bias": (6,)}


def shift_of(seed: int, layers: Sequence[str] = LAYERS, *, dense: bool = False) -> ConceptShift:
    """A random shift, orthonormal in its support as ours are."""
    draw = torch.Generator().manual_seed(seed)
    support = torch.linalg.qr(torch.randn(WIDTH, RANK, generator=draw)).Q.T.contiguous()
    return ConceptShift(
        concept=f"concept {seed}",
        aliases=(),
        kind="style",
        method="closed-form",
        base_digest="b" * 64,
        text_encoder_digest="t" * 64,
        support=support,
        factors={} if dense else {n: torch.randn(OUT, RANK, generator=draw) for n in layers},
        dense={n: torch.randn(s, generator=draw) for n, s in DENSE.items()} if dense else {},
        protected=(),
        protected_digest="",
    )


SHIFTS = tuple(shift_of(seed) for seed in range(6))


def weights() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(99)
    shapes = {**dict.fromkeys(LAYERS, (OUT, WIDTH)), **DENSE}
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def difference(
    terms: Mapping[int, float],
    shifts: Sequence[ConceptShift] = SHIFTS,
    layers: Sequence[str] = LAYERS,
) -> dict[str, Tensor]:
    """The exact sum of shifts at their strengths."""
    own = weights()
    total = {layer: torch.zeros_like(own[layer]) for layer in layers}
    for place, strength in terms.items():
        for layer in shifts[place].layers:
            total[layer] = total[layer] + strength * shifts[place].delta_weight(layer)
    return total


def rounded(
    exact: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The difference as a file of that dtype has it, and the size of the rounding."""
    own = weights()
    new = {layer: (own[layer] + d).to(dtype).double() for layer, d in exact.items()}
    size = {
        layer: rounding_error(torch.maximum(w.abs(), own[layer].abs()), dtype)
        for layer, w in new.items()
    }
    return {layer: new[layer] - own[layer] for layer in new}, size


def strengths(explanation: Explanation) -> dict[int, float]:
    return {one.index: one.strength for one in explanation.found}


any_strength = st.floats(-2, 2).filter(lambda value: abs(value) > 0.1)
terms_of_shifts = st.dictionaries(st.integers(0, len(SHIFTS) - 1), any_strength, max_size=4)


@settings(deadline=None, max_examples=30)
@given(terms_of_shifts)
def test_exact_sums_are_taken_apart_into_the_shifts_they_were_made_of(
    terms: dict[int, float],
) -> None:
    explanation = explain(difference(terms), SHIFTS)
    assert strengths(explanation) == pytest.approx(terms, abs=1e-6)
    assert explanation.explained == pytest.approx(1, abs=1e-12)
    assert explanation.unexplained == ()


@settings(deadline=None, max_examples=30)
@given(terms_of_shifts, st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_rounded_sums_are_taken_apart_and_the_rest_is_rounding(
    terms: dict[int, float], dtype: torch.dtype
) -> None:
    differences, size = rounded(difference(terms), dtype)
    explanation = explain(differences, SHIFTS, rounding=size)
    eps = torch.finfo(dtype).eps
    assert strengths(explanation) == pytest.approx(terms, abs=eps)
    for one in explanation.found:
        assert abs(one.strength - terms[one.index]) <= 6 * one.error <= 6 * eps
    assert explanation.unexplained == ()
    if terms:  # shares of the difference: the weaker it is, the more of it is rounding
        strongest = max(map(abs, terms.values()))
        assert 1 - explanation.explained <= 4 * explanation.rounding <= 10 * (eps / strongest) ** 2


def test_least_squares_agree_with_the_dense_solution() -> None:
    draw = torch.Generator().manual_seed(5)
    mixed = (*SHIFTS[:3], shift_of(7, dense=True))
    layers = (*LAYERS, *DENSE)
    exact = difference({0: 0.7, 2: 1.3, 3: -1.0}, mixed, layers)
    # The same noise in every value, so that weighting by layers changes next to nothing.
    noisy = {n: d + 0.01 * torch.randn(d.shape, generator=draw).double() for n, d in exact.items()}
    found = strengths(explain(noisy, mixed, rounding=dict.fromkeys(layers, 0.01)))
    columns = [
        torch.cat(
            [
                mixed[k].delta_weight(n).flatten() if n in mixed[k].layers else 0 * d.flatten()
                for n, d in noisy.items()
            ]
        ).numpy()
        for k in (0, 2, 3)
    ]
    target = torch.cat([d.flatten() for d in noisy.values()]).numpy()
    dense, *_ = np.linalg.lstsq(np.stack(columns, axis=1), target)
    assert found == pytest.approx(dict(zip((0, 2, 3), dense.tolist(), strict=True)), abs=1e-4)


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_noise_of_no_shift_is_reported_at_its_share_and_bends_no_strength(noise: float) -> None:
    draw = torch.Generator().manual_seed(1)
    exact = difference({1: 1.0, 4: 0.5})
    added = {n: noise * torch.randn(d.shape, generator=draw).double() for n, d in exact.items()}
    whole = {n: d + added[n] for n, d in exact.items()}
    explanation = explain(whole, SHIFTS, rounding=dict.fromkeys(whole, 1e-5))
    assert set(strengths(explanation)) == {1, 4}
    for one in explanation.found:
        assert abs(one.strength - {1: 1.0, 4: 0.5}[one.index]) <= 4 * one.error
    share = sum(float(d.square().sum()) for d in added.values()) / sum(
        float(d.square().sum()) for d in whole.values()
    )
    assert 1 - explanation.explained == pytest.approx(share, rel=0.05)
    assert explanation.unexplained == LAYERS
    assert sum(explanation.residuals.values()) == pytest.approx(1 - explanation.explained)


def test_noise_alone_is_no_shift() -> None:
    draw = torch.Generator().manual_seed(2)
    noise = {n: torch.randn(OUT, WIDTH, generator=draw) for n in LAYERS}
    explanation = explain(noise, SHIFTS, rounding=dict.fromkeys(LAYERS, 1e-4))
    assert explanation.found == ()
    assert explanation.explained == 0


def test_an_unknown_shift_is_not_taken_for_those_that_resemble_it_a_little() -> None:
    unknown = {n: shift_of(50).delta_weight(n) for n in LAYERS}
    known = [
        replace(
            one,
            factors={},
            dense={n: (one.delta_weight(n) + 0.3 * unknown[n]).float() for n in LAYERS},
        )
        for one in SHIFTS
    ]
    size = dict.fromkeys(LAYERS, 1e-4)
    assert explain(unknown, known, rounding=size).found == ()
    whole = {n: unknown[n] + known[2].delta_weight(n) for n in LAYERS}
    explanation = explain(whole, known, rounding=size)
    assert set(strengths(explanation)) == {2}
    assert explanation.unexplained == LAYERS


def test_a_layer_that_was_changed_besides_is_named_and_bends_no_strength() -> None:
    draw = torch.Generator().manual_seed(3)
    exact = difference({0: 1.0, 1: 0.5})
    exact["b.to_k"] = exact["b.to_k"] + torch.randn(OUT, WIDTH, generator=draw)
    differences, size = rounded(exact, torch.float16)
    explanation = explain(differences, SHIFTS, rounding=size)
    assert strengths(explanation) == pytest.approx({0: 1.0, 1: 0.5}, abs=1e-4)
    assert explanation.unexplained == ("b.to_k",)


def test_a_layer_that_lacks_the_shift_is_named() -> None:
    whole = difference({2: 1.0})
    whole["c.to_k"] = torch.zeros(OUT, WIDTH)
    explanation = explain(whole, SHIFTS)
    assert strengths(explanation) == pytest.approx({2: 1.0})
    assert explanation.unexplained == ("c.to_k",)


def test_a_layer_that_is_not_known_says_nothing() -> None:
    known = {n: d for n, d in difference({2: 0.5}).items() if n != "c.to_k"}
    explanation = explain(known, SHIFTS)
    assert strengths(explanation) == pytest.approx({2: 0.5})
    assert explanation.unexplained == ()


def test_parameters_that_no_shift_reaches_are_unexplained() -> None:
    whole = difference({0: 1.0}) | {"elsewhere": torch.ones(3)}
    explanation = explain(whole, SHIFTS)
    assert explanation.unexplained == ("elsewhere",)
    assert strengths(explanation) == pytest.approx({0: 1.0})
    assert explanation.residuals["elsewhere"] == pytest.approx(1 - explanation.explained)


def version_of(shift: ConceptShift, change: float, seed: int = 77) -> ConceptShift:
    """A refreshed version: the same shift but for a small part."""
    draw = torch.Generator().manual_seed(seed)
    return replace(
        shift,
        factors={
            n: f + change * torch.randn(f.shape, generator=draw) for n, f in shift.factors.items()
        },
    )


@pytest.mark.parametrize("change", [0.5, 0.05, 0.01])
@pytest.mark.parametrize("true", [0, 1])
def test_nearly_collinear_versions_are_told_apart_in_half_precision(
    change: float, true: int
) -> None:
    versions = (SHIFTS[0], version_of(SHIFTS[0], change), *SHIFTS[1:])
    differences, size = rounded(difference({true: 1.0, 3: 1.0}, versions), torch.float16)
    explanation = explain(differences, versions, rounding=size)
    assert strengths(explanation) == pytest.approx({true: 1.0, 3: 1.0}, abs=1e-3)
    assert all(one.alternatives == () for one in explanation.found)


def test_versions_that_rounding_makes_equal_are_reported_as_alternatives() -> None:
    versions = (SHIFTS[0], version_of(SHIFTS[0], 1e-6), *SHIFTS[1:])
    differences, size = rounded(difference({1: 1.0, 3: 1.0}, versions), torch.float16)
    explanation = explain(differences, versions, rounding=size)
    first, other = explanation.found
    assert (first.index, other.index) == (0, 3)
    ((place, strength),) = first.alternatives
    assert place == 1
    assert strength == pytest.approx(1, abs=1e-3)
    assert other.alternatives == ()
    assert explanation.unexplained == ()


def test_of_shifts_that_explain_the_same_the_one_of_strength_1_is_preferred() -> None:
    double = replace(SHIFTS[0], factors={n: 2 * f for n, f in SHIFTS[0].factors.items()})
    versions = (double, SHIFTS[0], *SHIFTS[1:])
    (found,) = explain(difference({1: 1.0}, versions), versions).found
    assert (found.index, found.strength) == (1, pytest.approx(1))
    assert found.alternatives == ((0, pytest.approx(0.5)),)


def test_two_versions_at_half_strength_each_are_both_found() -> None:
    versions = (SHIFTS[0], version_of(SHIFTS[0], 0.5))
    explanation = explain(difference({0: 0.5, 1: 0.5}, versions), versions)
    assert strengths(explanation) == pytest.approx({0: 0.5, 1: 0.5})


def test_no_difference_is_explained_by_nothing() -> None:
    explanation = explain({n: torch.zeros(OUT, WIDTH) for n in LAYERS}, SHIFTS)
    assert explanation.found == ()
    assert (explanation.explained, explanation.unexplained) == (1, ())


@pytest.mark.parametrize("shifts", [(), (shift_of(3, ("other",)),)])
def test_a_difference_without_shifts_that_reach_it_is_unexplained(
    shifts: tuple[ConceptShift, ...],
) -> None:
    explanation = explain({"x": torch.ones(2, 2)}, shifts)
    assert explanation.found == ()
    assert (explanation.explained, explanation.unexplained) == (0, ("x",))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(IncompatibleError, match="shape"):
        explain({"a.to_k": torch.ones(OUT, WIDTH + 1)}, SHIFTS)
    with pytest.raises(InvalidInputError, match="NaN"):
        explain({"a.to_k": torch.full((OUT, WIDTH), math.nan)}, SHIFTS)
