from __future__ import annotations

from typing import Any

import pytest

from shiftreg.errors import InvalidInputError
from shiftreg.verification import Policy


def test_a_policy_is_read_from_a_table() -> None:
    values = {"must_erase": ["Caravaggio"], "capacity": 1, "verify": True}
    policy = Policy.read(values, "shiftreg.toml")
    assert policy == Policy(must_erase=("Caravaggio",), capacity=1.0, verify=True)
    assert Policy.read({}, "shiftreg.toml") == Policy()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"must_erasee": []}, "Did you mean 'must_erase'"),
        ({"must_erase": "Caravaggio"}, "is a list of concepts"),
        ({"may_generate": [1]}, "is a list of concepts"),
        ({"capacity": 2}, "share from 0 to 1"),
        ({"capacity": True}, "share from 0 to 1"),
        ({"capacity": float("nan")}, "share from 0 to 1"),
        ({"verify": 1}, "true or false"),
        ({"watermark_rate": 1.0}, r"watermark = LIMIT in the table \[gates\]"),
        ({"lpips_protected": 0.1}, r"images = LIMIT in the table \[gates\]"),
        ({"attack": 0.1}, r"attack = LIMIT in the table \[gates\]"),
    ],
)
def test_what_is_wrong_in_a_policy_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Policy.read(values, "shiftreg.toml")
