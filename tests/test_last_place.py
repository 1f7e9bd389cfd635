from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.last_place import differs_by_rounding, last_place, rounding_error

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
