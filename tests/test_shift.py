"""ConceptShift: an immutable value whose digest is its content."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch

from shiftreg.errors import InvalidInputError
from shiftreg.shift import ConceptShift, canonical_json, tensor_digest


def make_shift(**changes: Any) -> ConceptShift:
    generator = torch.Generator().manual_seed(0)
    values: dict[str, Any] = {
        "concept": "Picasso",
        "aliases": (),
        "kind": "style",
        "method": "closed-form",
        "base_digest": "b" * 64,
        "text_encoder_digest": "t" * 64,
        "support": torch.randn(2, 6, generator=generator),
        "factors": {
            "b.to_v": torch.randn(3, 2, generator=generator),
            "a.to_k": torch.randn(4, 2, generator=generator),
        },
        "protected": ("", "Caravaggio"),
        "protected_digest": "p" * 64,
    }
    return ConceptShift(**(values | changes))


def test_the_delta_is_the_product_of_its_factors() -> None:
    shift = make_shift()
    expected = shift.factors["a.to_k"].double() @ shift.support.double()
    assert torch.equal(shift.delta_weight("a.to_k"), expected)
    assert shift.rank == 2
    assert shift.layers == ("a.to_k", "b.to_v")


def test_equal_content_has_one_digest_whatever_the_order_of_layers() -> None:
    shift = make_shift()
    turned = make_shift(factors=dict(reversed(shift.factors.items())))
    assert turned.digest == shift.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"concept": "Picassp"},
        {"protected": ("",)},
        {"hyperparameters": {"seed": 1}},
        {"metrics": {"rank": 2.0}},
        {"support": torch.zeros(2, 6)},
        {"base_digest": "c" * 64},
    ],
)
def test_any_other_content_has_another_digest(changes: dict[str, Any]) -> None:
    assert make_shift(**changes).digest != make_shift().digest


def test_one_changed_bit_changes_the_digest() -> None:
    shift = make_shift()
    factors = {name: factor.clone() for name, factor in shift.factors.items()}
    factors["a.to_k"][0, 0] = torch.nextafter(factors["a.to_k"][0, 0], torch.tensor(9.0))
    assert replace(shift, factors=factors).digest != shift.digest


def test_a_shift_cannot_be_changed() -> None:
    shift = make_shift()
    with pytest.raises(FrozenInstanceError):
        shift.concept = "Caravaggio"  # type: ignore[misc]
    with pytest.raises(TypeError):
        shift.factors["a.to_k"] = torch.zeros(4, 2)  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"factors": {}},
        {"factors": {"a.to_k": torch.zeros(4, 3)}},
        {"support": torch.zeros(6)},
        {"support": torch.zeros(2, 6, dtype=torch.float64)},
        {"factors": {"a.to_k": torch.full((4, 2), float("inf"))}},
    ],
)
def test_tensors_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        make_shift(**changes)


def test_canonical_json_has_one_text_and_no_nan() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}'
    with pytest.raises(InvalidInputError):
        canonical_json({"loss": float("nan")})


def test_tensor_digests_tell_shapes_and_dtypes_apart() -> None:
    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(2, dtype=torch.float64)]
    assert len({tensor_digest(tensor) for tensor in zeros}) == 3
