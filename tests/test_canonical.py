"""Canonical JSON: one text and one digest for each value, and none for what JSON cannot say."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftreg.canonical import canonical_digest, canonical_json
from shiftreg.errors import InvalidInputError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | TEXTS
    | st.floats(allow_nan=False).filter(math.isfinite),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_comes_back_from_its_text(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(TEXTS, VALUES, min_size=2, max_size=5))
def test_the_order_of_keys_changes_neither_text_nor_digest(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert canonical_digest(turned) == canonical_digest(value)


@given(VALUES, VALUES)
def test_digests_are_equal_where_texts_are(first: Any, second: Any) -> None:
    same = canonical_json(first) == canonical_json(second)
    assert (canonical_digest(first) == canonical_digest(second)) is same


def test_the_digest_is_sha256_of_the_text_in_utf8() -> None:
    assert canonical_json({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'
    expected = hashlib.sha256('{"a":null,"b":[1,"é"]}'.encode()).hexdigest()
    assert canonical_digest({"b": [1, "é"], "a": None}) == expected


@pytest.mark.parametrize(
    "value", [math.nan, [math.inf], Path(), {"a": b"bytes"}, "\ud800", {1: {2}}]
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="canonical JSON"):
        canonical_json(value)
    with pytest.raises(InvalidInputError, match="canonical JSON"):
        canonical_digest(value)
