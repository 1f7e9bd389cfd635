"""Profiles: what is kept exactly stays exact, and the drift of the rest is bounded."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError
from shiftreg.profiles import (
    Profile,
    compressed_rows,
    drift_bound,
    profile_null_basis,
    weighted_rows,
)
from shiftreg.subspace import drift, null_space_basis

LENGTH = 6
seeds = st.integers(0, 9999)
counts_of = st.lists(st.integers(1, LENGTH), min_size=1, max_size=6)
tolerances = st.floats(1e-6, 0.9)
approximate = st.builds(Profile, st.sampled_from(["content", "svd"]), tolerances)


def prompts(counts: list[int], width: int = 30, seed: int = 0) -> torch.Tensor:
    """Embeddings with a decaying spectrum, as encoders give: a few directions carry most."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -5, width, dtype=torch.float64)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    rows = torch.randn(len(counts), LENGTH, width, generator=generator, dtype=torch.float64)
    return (rows * scale) @ torch.linalg.qr(mix).Q


def projector(basis: torch.Tensor) -> torch.Tensor:
    return basis.T @ basis


@given(counts_of, seeds, st.sampled_from(["exact", "content", "svd"]))
def test_without_tolerance_every_profile_is_the_null_space_of_all_rows(
    counts: list[int], seed: int, name: str
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, Profile(name))
    assert torch.equal(basis, null_space_basis(embeds.flatten(0, 1)))


@given(counts_of, seeds, approximate)
def test_the_basis_is_orthonormal(counts: list[int], seed: int, profile: Profile) -> None:
    basis = profile_null_basis(prompts(counts, seed=seed), counts, profile, exact=[0])
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-10)


@given(counts_of, seeds, approximate)
def test_exact_prompts_and_content_rows_stay_exact(
    counts: list[int], seed: int, profile: Profile
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, profile, exact=[0])
    kept = [embeds[0]]
    if profile.name == "content":
        kept += [rows[:count] for rows, count in zip(embeds, counts, strict=True)]
    stacked = torch.cat(kept)
    # The null space's own rank tolerance is relative to the largest singular value.
    assert (stacked @ basis.T).norm(dim=1).max() <= 2e-6 * torch.linalg.matrix_norm(stacked, ord=2)


@given(counts_of, seeds, tolerances)
def test_svd_keeps_what_scipy_finds_above_the_tolerance(
    counts: list[int], seed: int, tolerance: float
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, Profile("svd", tolerance))
    theirs = scipy.linalg.null_space(embeds.flatten(0, 1).numpy(), rcond=tolerance).T
    assert basis.shape == theirs.shape
    # Well-separated or not, the part of the rows outside is what the two must agree on.
    rows = embeds.flatten(0, 1).numpy()
    np.testing.assert_allclose(
        np.linalg.norm(rows @ basis.numpy().T),
        np.linalg.norm(rows @ theirs.T),
        rtol=1e-6,
        atol=1e-9,
    )


@given(counts_of, seeds, tolerances)
def test_svd_leaves_no_direction_above_its_tolerance(
    counts: list[int], seed: int, tolerance: float
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, Profile("svd", tolerance), exact=[0])
    rest = embeds[1:].flatten(0, 1)
    if len(rest):
        outside = torch.linalg.matrix_norm(rest @ basis.T, ord=2)
        assert outside <= tolerance * torch.linalg.matrix_norm(rest, ord=2) * (1 + 1e-9)


@given(counts_of, seeds, tolerances)
def test_content_leaves_every_prompt_at_most_its_share_of_padding(
    counts: list[int], seed: int, tolerance: float
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, Profile("content", tolerance))
    for rows, count in zip(embeds, counts, strict=True):
        padding = rows[count:]
        energy = (padding @ basis.T).square().sum()
        assert energy <= tolerance * padding.square().sum() * (1 + 1e-9) + 1e-18


@given(counts_of, seeds, st.sampled_from(["content", "svd"]), tolerances, tolerances)
def test_a_larger_tolerance_frees_more_and_nothing_else(
    counts: list[int], seed: int, name: str, one: float, other: float
) -> None:
    embeds = prompts(counts, seed=seed)
    small, large = (
        profile_null_basis(embeds, counts, Profile(name, t)) for t in sorted((one, other))
    )
    assert len(small) <= len(large)
    assert torch.allclose(small @ projector(large), small, atol=1e-8)


@given(counts_of, seeds, approximate, st.integers(0, 99))
def test_the_bound_is_never_below_the_measured_drift(
    counts: list[int], seed: int, profile: Profile, change: int
) -> None:
    embeds = prompts(counts, seed=seed)
    basis = profile_null_basis(embeds, counts, profile)
    generator = torch.Generator().manual_seed(change)
    factor = torch.randn(8, len(basis), generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 30, generator=generator, dtype=torch.float64)
    for rows in embeds:
        measured = drift(rows, factor @ basis, weight)
        assert measured <= drift_bound(rows, basis, factor, weight) * (1 + 1e-9) + 1e-14


def test_the_bound_is_reached_by_a_change_in_the_drifting_direction() -> None:
    rows, weight = torch.tensor([[3.0, 4.0]]), torch.eye(2)
    support, factor = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0], [0.5]])
    assert drift_bound(rows, support, factor, weight) == pytest.approx(0.4)
    assert drift(rows, factor @ support, weight) == pytest.approx(0.4)
    assert drift_bound(rows, support[:0], factor[:, :0], weight) == 0


def test_directions_shared_by_prompts_are_paid_for_once() -> None:
    shared = torch.randn(1, 1, 12, generator=torch.Generator().manual_seed(0)).double()
    embeds = shared.repeat(5, LENGTH, 1)
    for profile in (Profile("content", 0.01), Profile("svd", 0.01)):
        assert profile_null_basis(embeds, [2] * 5, profile).shape == (11, 12)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), min_size=1, max_size=4), seeds)
def test_weighted_rows_count_by_weight_and_not_by_number(
    groups: list[tuple[int, float]], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    filled = [(torch.randn(n, 3, generator=generator).double(), w) for n, w in groups]
    if not any(len(rows) for rows, _ in filled):
        with pytest.raises(InvalidInputError):
            weighted_rows(filled)
        return
    stacked = weighted_rows(filled)
    wanted = sum(w * rows.T @ rows / len(rows) for rows, w in filled if len(rows))
    assert torch.allclose(stacked.T @ stacked / len(stacked), wanted, atol=1e-9)


@given(st.integers(0, 40), seeds)
def test_compressed_rows_have_the_same_mean_energy_in_every_direction(
    count: int, seed: int
) -> None:
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)).double()
    compressed = compressed_rows(rows)
    assert len(compressed) == min(count, 8)
    if count:
        energy = compressed.T @ compressed / len(compressed)
        assert torch.allclose(energy, rows.T @ rows / count, atol=1e-12)


@pytest.mark.parametrize("text", ["exact", "content:0.01", "svd:0.001"])
def test_a_profile_is_read_as_it_is_written(text: str) -> None:
    assert str(Profile.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["all", "svd", "content:x", "content:", "svd:1", "svd:-1", "svd:nan", "exact:0.1", ""]
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Profile.parse(text)


@pytest.mark.parametrize("counts", [[1], [0, 1], [1, LENGTH + 1]])
def test_token_counts_that_do_not_fit_are_refused(counts: list[int]) -> None:
    with pytest.raises(InvalidInputError):
        profile_null_basis(prompts([1, 1]), counts, Profile())
