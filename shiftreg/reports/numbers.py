"""Numbers and names as a page says them."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from shiftreg.errors import IntegrityError

SCHEMA_VERSION = 1
HEAT = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Upper ends of the heat map's colours; what lies above the last one has a colour of its own."""


def number(value: float | None) -> str:
    """Three digits that count; a whole number in full. JSON has None for what is not finite."""
    if value is None:
        return "not measurable"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3g}"


def share(estimate: Mapping[str, Any]) -> str:
    """An estimated share of images: ``35% (28% to 43%) of 64``."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return f"{value:.0%} ({low:.0%} to {high:.0%}) of {estimate['count']}"


def distance(estimate: Mapping[str, Any]) -> str:
    """An estimated average distance: ``0.21 (0.19 to 0.24)``."""
    return f"{estimate['value']:.2g} ({estimate['low']:.2g} to {estimate['high']:.2g})"


def moment(time: str) -> str:
    """A time in UTC, ISO 8601, to the second as one reads it."""
    return time[:19].replace("T", " ")


def percent(value: float) -> str:
    """A share as a coordinate of a bar that is 100 long."""
    return f"{100 * min(max(value, 0.0), 1.0):.1f}"


def heat(value: float) -> int:
    """Which colour of the heat map a residual has, 0 for the smallest."""
    return bisect_left(HEAT, value)


def visible(value: Any) -> Any:
    r"""Spells control and invisible characters out: they could reorder what the reader sees.

    Anything but a plain string, such as markup of ours, passes as it is.
    """
    if type(value) is not str:
        return value
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character).startswith("C") and character != "\n"
        else character
        for character in value
    )


def check_schema(document: Any) -> None:
    """Checks that a stored report is one that this version can read.

    Raises:
        IntegrityError: It is not.
    """
    if not isinstance(document, Mapping) or document.get("schema_version") != SCHEMA_VERSION:
        raise IntegrityError("it has a form that this version of shiftreg does not read")
