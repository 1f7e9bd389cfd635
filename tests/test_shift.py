"""ConceptShift: an immutable value whose digest is its content."""

from __future__ import annotations

import pickle
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


def test_a_dense_delta_is_kept_as_it_is_for_parameters_of_any_shape() -> None:
    dense = {"conv_in": torch.randn(4, 3, 3, 3), "conv_in.bias": torch.randn(4)}
    shift = make_shift(dense=dense)
    assert shift.layers == ("a.to_k", "b.to_v", "conv_in", "conv_in.bias")
    for name, delta in dense.items():
        assert shift.delta_weight(name).dtype == torch.float64
        assert torch.equal(shift.delta_weight(name), delta.double())
    assert shift.delta_weight("a.to_k").shape == (4, 6)
    assert set(shift.tensors()) == {
        "support", "factors.a.to_k", "factors.b.to_v", "dense.conv_in", "dense.conv_in.bias",
    }  # fmt: skip
    with pytest.raises(KeyError):
        shift.delta_weight("conv_out")


def test_a_shift_may_be_dense_alone() -> None:
    shift = make_shift(support=torch.zeros(0, 6), factors={}, dense={"a.to_k": torch.ones(4, 6)})
    assert (shift.layers, shift.rank) == (("a.to_k",), 0)


def test_a_shift_that_protects_no_prompt_is_not_separable() -> None:
    assert make_shift().separable
    assert make_shift(protected=("",)).separable
    assert not make_shift(protected=()).separable


def test_equal_content_has_one_digest_whatever_the_order_of_layers() -> None:
    shift = make_shift()
    turned = make_shift(factors=dict(reversed(shift.factors.items())))
    assert turned.digest == shift.digest
    dense = {"conv_in": torch.ones(2, 2), "conv_in.bias": torch.ones(2)}
    turned = make_shift(dense=dict(reversed(dense.items())))
    assert turned.digest == make_shift(dense=dense).digest


@pytest.mark.parametrize(
    "changes",
    [
        {"concept": "Picassp"},
        {"protected": ("",)},
        {"hyperparameters": {"seed": 1}},
        {"metrics": {"rank": 2.0}},
        {"support": torch.zeros(2, 6)},
        {"base_digest": "c" * 64},
        {"dense": {"conv_in.bias": torch.zeros(4)}},
    ],
)
def test_any_other_content_has_another_digest(changes: dict[str, Any]) -> None:
    assert make_shift(**changes).digest != make_shift().digest


def test_one_changed_bit_changes_the_digest() -> None:
    shift = make_shift()
    factors = {name: factor.clone() for name, factor in shift.factors.items()}
    factors["a.to_k"][0, 0] = torch.nextafter(factors["a.to_k"][0, 0], torch.tensor(9.0))
    assert replace(shift, factors=factors).digest != shift.digest


def test_another_dense_delta_another_name_or_shape_changes_the_digest() -> None:
    delta = torch.ones(2, 3)
    digests = {
        make_shift(dense=dense).digest
        for dense in (
            {"c": delta},
            {"c": torch.nextafter(delta, 2 * delta)},
            {"d": delta},
            {"c": delta.T},
            {"c": delta.flatten()},
            {"c": delta, "d": delta},
        )
    }
    assert len(digests) == 6


def test_a_factor_and_a_dense_delta_of_one_content_have_different_digests() -> None:
    factor = torch.ones(4, 2)
    one = make_shift(factors={"b.to_v": torch.ones(3, 2), "a.to_k": factor})
    other = make_shift(factors={"b.to_v": torch.ones(3, 2)}, dense={"a.to_k": factor})
    assert one.digest != other.digest


def test_a_shift_cannot_be_changed() -> None:
    shift = make_shift()
    with pytest.raises(FrozenInstanceError):
        shift.concept = "Caravaggio"  # type: ignore[misc]
    with pytest.raises(TypeError):
        shift.factors["a.to_k"] = torch.zeros(4, 2)  # type: ignore[index]
    with pytest.raises(TypeError):
        shift.dense["conv_in"] = torch.zeros(4)  # type: ignore[index]


def test_mappings_that_it_was_made_of_may_change_without_it() -> None:
    dense = {"conv_in.bias": torch.ones(4)}
    shift = make_shift(dense=dense)
    dense.clear()
    assert "conv_in.bias" in shift.layers


def test_a_layer_with_a_factor_and_a_dense_delta_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"a\.to_k has both a factor and a dense delta"):
        make_shift(dense={"a.to_k": torch.zeros(4, 6), "c": torch.zeros(1)})


@pytest.mark.parametrize(
    "changes",
    [
        {"factors": {}},
        {"factors": {"a.to_k": torch.zeros(4, 3)}},
        {"support": torch.zeros(6)},
        {"support": torch.zeros(2, 6, dtype=torch.float64)},
        {"factors": {"a.to_k": torch.full((4, 2), float("inf"))}},
        {"dense": {"conv_in": torch.full((4, 3, 3, 3), float("nan"))}},
        {"dense": {"conv_in.bias": torch.tensor([1.0, float("-inf")])}},
        {"dense": {"conv_in.bias": torch.zeros(4, dtype=torch.float16)}},
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


def test_a_shift_travels_between_processes_as_it_is(shift: ConceptShift) -> None:
    copied = pickle.loads(pickle.dumps(shift))
    assert copied.digest == shift.digest
    assert copied.metadata() == shift.metadata()
