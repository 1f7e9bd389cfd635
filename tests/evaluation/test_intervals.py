"""Averages and shares with their intervals."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation import intervals
from shiftreg.evaluation.intervals import Estimate, mean, pooled_rate, rate

numbers = st.lists(st.floats(-1000, 1000), min_size=1, max_size=40).map(np.array)
hits = st.lists(st.booleans(), min_size=1, max_size=40).map(np.array)


@settings(deadline=None, max_examples=50)
@given(values=numbers, seed=st.integers(0, 5))
def test_the_interval_of_a_mean_holds_it_and_stays_among_the_values(
    values: np.ndarray, seed: int
) -> None:
    estimate = mean(values, seed)
    rounding = 1e-12 * max(1.0, float(np.abs(values).max()))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.count == len(values)
    assert values.min() - rounding <= estimate.low <= estimate.value + rounding
    assert estimate.value - rounding <= estimate.high <= values.max() + rounding


@settings(deadline=None, max_examples=50)
@given(shown=hits, seed=st.integers(0, 5))
def test_the_interval_of_a_share_holds_it_and_never_claims_certainty(
    shown: np.ndarray, seed: int
) -> None:
    estimate = rate(shown, seed)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.low < estimate.high
    assert estimate.value == pytest.approx(shown.mean())


@settings(deadline=None, max_examples=30)
@given(shown=hits)
def test_misses_are_the_mirror_image_of_hits(shown: np.ndarray) -> None:
    found, missed = rate(shown), rate(~shown)
    assert missed.low == pytest.approx(1 - found.high)
    assert missed.high == pytest.approx(1 - found.low)


@pytest.mark.parametrize("pattern", [[True], [False], [True, False], [True, False, False, False]])
def test_the_interval_shrinks_with_the_number_of_images(pattern: list[bool]) -> None:
    widths = [
        estimate.high - estimate.low
        for estimate in (rate(np.tile(pattern, repeats)) for repeats in (4, 16, 64, 256))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 4


@pytest.mark.parametrize("count", [1, 5, 20, 250])
def test_where_all_images_agree_the_interval_is_clopper_and_pearsons(count: int) -> None:
    for agreed in (0, 1):
        exact = scipy.stats.binomtest(agreed * count, count).proportion_ci(0.95, "exact")
        estimate = rate(np.full(count, bool(agreed)))
        assert estimate.value == agreed
        assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("truth", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [20, 60])
def test_most_intervals_hold_the_true_share(truth: float, count: int) -> None:
    possible = np.arange(count + 1)
    estimates = [rate(possible[:count] < successes) for successes in possible]
    holds = np.array([estimate.low <= truth <= estimate.high for estimate in estimates])
    # Summed over all that n images can show: nothing is drawn. Percentile intervals hold less
    # than they promise in small samples.
    coverage = float(scipy.stats.binom.pmf(possible, count, truth) @ holds)
    assert 0.87 <= coverage <= 1


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=400)
    estimate = mean(values)
    half = 1.96 * values.std() / 20
    assert (estimate.low, estimate.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.1 * half
    )


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(2).normal(size=30)
    assert mean(values, seed=4) == mean(values.copy(), seed=4)
    assert mean(values, seed=4).low != mean(values, seed=5).low
    assert rate(values > 0) == rate(values > 0, seed=0)


@pytest.mark.parametrize("block", [1, 7, 100, 10**9])
def test_in_blocks_of_any_size_the_interval_is_the_same(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(2).normal(size=13)
    expected = mean(values)
    monkeypatch.setattr(intervals, "_BLOCK", block)
    assert mean(values) == expected


def test_resampling_many_images_takes_little_memory() -> None:
    values = np.random.default_rng(2).normal(size=20_000)
    tracemalloc.start()
    try:
        mean(values)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50e6  # all draws at once would be 320 MB, and the values as many again


def test_the_global_random_numbers_are_left_alone() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    mean(np.arange(5))
    assert (np.random.get_state()[1] == before).all()


def test_one_image_is_an_estimate() -> None:
    assert mean(np.array([0.25])) == Estimate(0.25, 0.25, 0.25, 1)
    assert rate(np.array([True])) == Estimate(1.0, pytest.approx(0.025), 1.0, 1)


@pytest.mark.parametrize("estimate", [mean, rate])
@pytest.mark.parametrize("values", [[], [[0.5, 1.0]], 0.5])
def test_no_images_and_tables_are_refused(estimate: object, values: object) -> None:
    assert callable(estimate)
    with pytest.raises(InvalidInputError, match="at least one image"):
        estimate(np.array(values))


def test_a_pooled_rate_is_that_of_all_images_together() -> None:
    cells = [np.array([True] * 3 + [False]), np.array([False] * 10)]
    assert pooled_rate([rate(cell) for cell in cells]) == rate(np.sort(np.concatenate(cells))[::-1])
    with pytest.raises(InvalidInputError, match="at least one image"):
        pooled_rate([])
