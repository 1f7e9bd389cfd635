"""Numbers and names as a page says them."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from shiftreg.attacks.results import AttackScore
from shiftreg.errors import IntegrityError
from shiftreg.evaluation.intervals import Estimate

SCHEMA_VERSION = 1
HEAT = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Upper ends of the heat map's colours; what lies above the last one has a colour of its own."""


def number(value: float | None) -> str:
    """Three digits that count; a whole number in full."""
    if value is None or not math.isfinite(value):
        return "not measurable"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.3g}"


def share(estimate: Estimate) -> str:
    """An estimated share of images: ``35% (28% to 43%) of 64``."""
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%}) of {estimate.count}"


def distance(estimate: Estimate) -> str:
    """An estimated average distance: ``0.21 (0.19 to 0.24)``."""
    return f"{estimate.value:.2g} ({estimate.low:.2g} to {estimate.high:.2g})"


def effort(score: AttackScore) -> str:
    """What an attacker spent: ``steps 300, tokens 2; 42 s``."""
    budget = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in score.budget.items())
    seconds = f"{score.seconds:.0f} s"
    return f"{budget}; {seconds}" if budget else seconds


def file_name(path: str) -> str:
    """The last part of a path."""
    return PurePath(path).name


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
