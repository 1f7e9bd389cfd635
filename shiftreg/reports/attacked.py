"""Stored attacks as a page shows them: read from JSON, numbers put in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftreg.errors import IntegrityError
from shiftreg.reports.numbers import check_schema, moment, share

_FIELDS = ("concept", "classifier", "images", "seed", "digest")


@dataclass(frozen=True)
class AttackBar:
    """How often one attack brings the concept back from one target.

    Attributes:
        attack: Its name, or that there was none.
        target: What was attacked.
        success: The share and its interval, in words.
        value: The share, 0 to 1.
        low: Lower end of the interval.
        high: Upper end of the interval.
        effort: What the attacker spent.
        found: E.g. the prompt that was found.
    """

    attack: str
    target: str
    success: str
    value: float
    low: float
    high: float
    effort: str = ""
    found: str = ""


@dataclass(frozen=True)
class AttackPart:
    """Attacks on one concept; see ``attacks.results.AttackReport``."""

    concept: str
    classifier: str
    images: int
    seed: int
    created: str
    digest: str
    is_this: bool
    bars: tuple[AttackBar, ...]


def read_attack(document: Mapping[str, Any], digest: str) -> AttackPart:
    """Reads the JSON of attacks on one concept.

    Args:
        document: As ``attack`` stored it.
        digest: Of the composition that the page is about.

    Raises:
        IntegrityError: It is no report of attacks of a known schema.
    """
    check_schema(document)
    try:
        return AttackPart(
            **{field: document[field] for field in _FIELDS},
            created=moment(document["created"]),
            is_this=document["digest"] == digest,
            bars=(
                *(
                    _bar("by name, no attack", target, success)
                    for target, success in document["unattacked"].items()
                ),
                *(
                    _bar(
                        score["attack"],
                        score["target"],
                        score["success"],
                        _effort(score),
                        score["found"],
                    )
                    for score in document["scores"]
                ),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"it is no report of attacks: {error}") from error


def _bar(
    attack: str, target: str, success: Mapping[str, Any], effort: str = "", found: str = ""
) -> AttackBar:
    value, low, high = (float(success[key]) for key in ("value", "low", "high"))
    return AttackBar(attack, target, share(success), value, low, high, effort, found)


def _effort(score: Mapping[str, Any]) -> str:
    budget = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in score["budget"].items()
    )
    seconds = f"{score['seconds']:.0f} s"
    return f"{budget}; {seconds}" if budget else seconds
