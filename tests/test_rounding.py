"""Rounding: on the grid, near the exact value, and with the products that were asked for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shiftreg import miniature, pipelines
from shiftreg.errors import InvalidInputError
from shiftreg.rounding import (
    REACH,
    ErrorCompensation,
    differs_by_rounding,
    grid_step,
    last_place,
    residual,
    round_compensated,
    rounding_error,
)
from shiftreg.subspace import null_space_basis

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
seeds = st.integers(0, 9999)
dtypes = st.sampled_from([torch.float16, torch.bfloat16])
widths = st.integers(1, 40)
row_counts = st.integers(0, 50)
decays = st.floats(0, 3)
quickly = settings(deadline=None, max_examples=50)


def random_case(
    seed: int, width: int, row_count: int, decay: float = 1.0, outputs: int = 5, mixed: bool = True
) -> tuple[Tensor, Tensor]:
    """A weight and protected rows, whose spectrum, or columns, fall off as an encoder's do."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, width, generator=generator, dtype=torch.float64) / 20
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    rows = torch.randn(row_count, width, generator=generator, dtype=torch.float64)
    spectrum = torch.arange(1, width + 1).double() ** -decay
    return weight, (rows * spectrum) @ torch.linalg.qr(mix).Q if mixed else rows * spectrum


def errors(rounded: Tensor, reference: Tensor, rows: Tensor) -> Tensor:
    """What each output's products are off by."""
    return ((rounded.double() - reference) @ rows.T).norm(dim=1)


# The grid.


@quickly
@given(st.floats(-60000, 60000), dtypes)
def test_a_grid_step_is_the_distance_to_the_next_number_of_the_dtype(
    number: float, dtype: torch.dtype
) -> None:
    value = torch.tensor(number).to(dtype)
    step = grid_step(value, dtype)
    above = torch.nextafter(value.abs(), torch.tensor(torch.inf, dtype=dtype))
    assert step == above.double() - value.abs().double()


# Properties.


@quickly
@given(seeds, widths, row_counts, decays, st.booleans(), st.sampled_from([0, 16]), dtypes)
def test_no_output_is_worse_than_by_plain_rounding_and_no_entry_moves_far(
    seed: int,
    width: int,
    row_count: int,
    decay: float,
    mixed: bool,
    fine_entries: int,
    dtype: torch.dtype,
) -> None:
    weight, rows = random_case(seed, width, row_count, decay, outputs=200, mixed=mixed)
    rounded = round_compensated(weight, rows, dtype, fine_entries=fine_entries)
    assert rounded.dtype == dtype
    plain = errors(weight.to(dtype), weight, rows)
    assert (errors(rounded, weight, rows) <= plain * (1 + 1e-6) + 1e-12).all()
    moved = (rounded.double() - weight).abs()
    assert (moved <= REACH * grid_step(weight, dtype).amax(dim=1, keepdim=True)).all()


@quickly
@given(seeds, widths, row_counts, dtypes)
def test_a_reference_is_what_products_are_held_to(
    seed: int, width: int, row_count: int, dtype: torch.dtype
) -> None:
    weight, rows = random_case(seed, width, row_count)
    reference = weight.to(dtype).double()
    rounded = round_compensated(weight, rows, dtype, reference=reference, fine_entries=16)
    # Plain rounding gives the reference itself, so nothing worse may come out.
    assert errors(rounded, reference, rows).max() < 1e-6


@quickly
@given(seeds, widths, dtypes)
def test_without_protected_rows_it_is_plain_rounding(
    seed: int, width: int, dtype: torch.dtype
) -> None:
    weight, rows = random_case(seed, width, 0)
    assert torch.equal(round_compensated(weight, rows, dtype), weight.to(dtype))
    nothing = torch.zeros(3, width)
    assert torch.equal(round_compensated(weight, nothing, dtype), weight.to(dtype))


@quickly
@given(seeds, widths, row_counts, dtypes)
def test_what_lies_on_the_grid_stays(
    seed: int, width: int, row_count: int, dtype: torch.dtype
) -> None:
    weight, rows = random_case(seed, width, row_count)
    on_grid = weight.to(dtype)
    assert torch.equal(round_compensated(on_grid.double(), rows, dtype), on_grid)


@quickly
@given(seeds, dtypes)
def test_the_same_input_gives_the_same_bits(seed: int, dtype: torch.dtype) -> None:
    weight, rows = random_case(seed, 24, 20)
    first, second = (round_compensated(weight, rows, dtype, fine_entries=8) for _ in range(2))
    assert torch.equal(first, second)


# How much better.


def test_two_entries_make_up_for_each_other() -> None:
    # 1 + 0.0004 and 0.01: only their sum matters, and the small one has the finer grid.
    weight = torch.tensor([[1.0004, 0.01]], dtype=torch.float64)
    rows = torch.ones(1, 2)
    rounded = round_compensated(weight, rows, torch.float16).double()
    assert rounded[0, 0] == 1
    assert rounded.sum() == pytest.approx(1.0104, abs=1e-5)
    assert weight.to(torch.float16).double().sum() != pytest.approx(1.0104, abs=3e-4)


def test_an_order_of_its_own_for_every_output_pays() -> None:
    weight, rows = random_case(0, 200, 150, outputs=20)
    few, many = (
        residual(round_compensated(weight, rows, torch.float16, fine_entries=count), weight, rows)
        for count in (0, 100)
    )
    assert many < few / 2


@pytest.fixture(scope="module")
def miniature_case() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights of the packaged base, rows of what it protects, and of one concept."""
    pipeline = pipelines.load_pipeline(miniature.BASE_FOLDER)
    packaged = miniature.prompts()
    concept, *others = packaged["protected"]
    embeds = pipelines.encode_prompts(pipeline, ["", *packaged["triggers"], *others, concept])
    weights = {name: w.double() for name, w in pipelines.layer_weights(pipeline.unet).items()}
    return weights, embeds[:-1].flatten(0, 1).double(), embeds[-1].double()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_the_packaged_base_protects_moves_ten_times_less_than_by_plain_rounding(
    dtype: torch.dtype, miniature_case: tuple[dict[str, Tensor], Tensor, Tensor]
) -> None:
    weights, protected, concept = miniature_case
    basis = null_space_basis(protected)
    compensation = ErrorCompensation.of(protected)
    for weight in list(weights.values())[:3]:
        # Erases: the concept's rows get the products of the empty prompt's.
        wanted = (protected[: len(concept)] - concept) @ weight.T
        delta = torch.linalg.lstsq(concept @ basis.T, wanted).solution.T @ basis
        base = weight.to(dtype).double()  # what is deployed, and what a protected prompt shows
        plain = (weight + delta).to(dtype)
        rounded = compensation.round(base + delta, dtype)
        assert 10 * residual(rounded, base, protected) < residual(plain, base, protected)
        # The erasure itself does not suffer.
        exact = base + delta
        assert residual(rounded, exact, concept) < 2 * residual(plain, exact, concept)


def test_what_is_said_of_the_products_is_what_their_rows_show() -> None:
    weight, rows = random_case(3, 60, 30, outputs=20)
    reference = weight + 0.001 * weight.flip(0)
    compensation = ErrorCompensation.of(rows, fine_entries=16)
    found = compensation.rounded(weight, torch.float16, reference=reference)
    plain = residual(weight.half(), reference, rows)
    assert found.plain == pytest.approx(plain, rel=1e-6)
    assert found.residual == pytest.approx(residual(found.value, reference, rows), rel=1e-3)
    assert found.residual == compensation.residual(found.value, reference)


def test_products_of_the_rounded_base_come_from_an_exact_weight_too() -> None:
    weight, rows = random_case(1, 120, 60, outputs=20)
    basis = null_space_basis(rows)
    generator = torch.Generator().manual_seed(2)
    delta = torch.randn(20, len(basis), generator=generator).double() @ basis / 20
    base = weight.to(torch.bfloat16).double()
    plain = (weight + delta).to(torch.bfloat16)
    rounded = round_compensated(weight + delta, rows, torch.bfloat16, reference=base + delta)
    assert 10 * residual(rounded, base, rows) < residual(plain, base, rows)


# Refusals.


def test_what_does_not_fit_into_the_dtype_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="do not fit"):
        round_compensated(torch.tensor([[1e6, 0.0]]), torch.ones(1, 2), torch.float16)
    with pytest.raises(InvalidInputError, match="nan"):
        round_compensated(torch.tensor([[torch.nan, 0.0]]), torch.ones(1, 2), torch.bfloat16)


def test_shapes_that_do_not_fit_are_refused() -> None:
    weight = torch.ones(2, 3)
    for rows, reference in (
        (torch.ones(1, 4), None),
        (torch.ones(1, 3), torch.ones(3, 2)),
        (torch.ones(3), None),
        (torch.full((1, 3), torch.inf), None),
    ):
        with pytest.raises(InvalidInputError, match=r"(?i)rows"):
            round_compensated(weight, rows, torch.float16, reference=reference)


@pytest.mark.parametrize("dtype", DTYPES)
@given(value=st.floats(1e-3, 1e4))
def test_the_last_place_is_the_step_to_the_next_number(dtype: torch.dtype, value: float) -> None:
    here = torch.tensor([value]).to(dtype)
    after = torch.nextafter(here, torch.tensor([torch.inf], dtype=dtype))
    assert last_place(here, dtype).item() == (after.double() - here.double()).item()


def test_numbers_near_zero_have_the_step_of_the_smallest_normal_ones() -> None:
    steps = last_place(torch.tensor([0.0, 1e-30]), torch.float16)
    assert steps.tolist() == [2.0**-24, 2.0**-24]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_of_rounding_is_predicted(dtype: torch.dtype) -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actual = float((values.to(dtype).double() - values).square().mean().sqrt())
    assert rounding_error(values, dtype) == pytest.approx(actual, rel=0.02)


def test_small_values_may_make_up_for_the_rounding_of_large_ones() -> None:
    expected = torch.tensor([[1.0, 0.001], [0.001, 0.001]], dtype=torch.float64)
    value = expected.half()
    value[0, 1] += 2**-10  # a unit of the largest value beside it
    assert differs_by_rounding(value, expected, 1.1)
    value[1, 1] += 2**-10  # beside small values only
    assert not differs_by_rounding(value, expected, 1.1)


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 3, 3), (8,)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_is_told_from_a_change(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    expected = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value = expected.to(dtype)
    assert differs_by_rounding(value, expected, 1)
    value.view(-1)[0] += 20 * torch.finfo(dtype).eps * expected.abs().max()
    assert not differs_by_rounding(value, expected, 2)
    assert differs_by_rounding(value, expected, 2, slack=1.0)
