from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from shiftreg.errors import InvalidInputError
from shiftreg.verification import Gates


def test_gates_can_be_replaced_one_by_one() -> None:
    gates = Gates().updated({"ordinary": 0, "attack": 0.5}, "the project")
    assert (gates.ordinary, gates.attack, gates.name) == (0.0, 0.5, Gates.name)
    assert set(gates.limits()) == {field.name for field in fields(Gates)}


def test_an_unknown_gate_is_named_with_the_nearest_one() -> None:
    with pytest.raises(InvalidInputError, match=r"the project has no gate 'atack'.*'attack'"):
        Gates().updated({"atack": 1}, "the project")


@pytest.mark.parametrize("limit", [-1, math.nan, math.inf, "low", True, None])
def test_a_limit_is_a_number_from_0_on(limit: Any) -> None:
    with pytest.raises(InvalidInputError, match="'images' is a number from 0 on"):
        Gates().updated({"images": limit}, "the project")
