"""Canonical JSON: the one text of a value, so that equal values have equal digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shiftreg.errors import InvalidInputError


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN, encodable as UTF-8.

    Raises:
        InvalidInputError: The value holds NaN, infinity, or something that JSON cannot say.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
        )
        text.encode()  # Refuses lone surrogates, which file names and arguments may hold.
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"Not representable as canonical JSON: {error}.") from error
    return text


def canonical_digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex: equal for equal values, and for no others.

    Raises:
        InvalidInputError: The value holds NaN, infinity, or something that JSON cannot say.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
