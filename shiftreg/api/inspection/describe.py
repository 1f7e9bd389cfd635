"""Inspected shifts, and what is said of them and of the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shiftreg.api.inspection.base_matching import BaseMatch

InspectedState = Literal["erased", "weakened", "reversed", "generates", "unknown"]
ALMOST = 0.01  # difference from strength 1 that is as registered


@dataclass(frozen=True)
class InspectedShift:
    """A registered shift that is inside a file.

    Attributes:
        strength: What its deltas are multiplied by: 1 as registered.
        low: Lower end of the strength's error bar, two standard errors away.
        alternatives: What cannot be told from it: "Caravaggio@2 at strength 0.98".
    """

    concept: str
    version: int
    digest: str
    method: str
    strength: float
    low: float
    high: float
    alternatives: tuple[str, ...]


def statement(name: str, state: InspectedState, shifts: Sequence[InspectedShift]) -> str:
    """What is known of a concept: "Caravaggio: erased (version 1, strength 1.00)"."""
    inside = [shift for shift in shifts if shift.concept == name]
    if state == "unknown" and not inside:
        return f"{name}: not known (no registered shift of it is inside)"
    if not inside:
        return f"{name}: {state}"
    words = []
    for shift in inside:
        others = f", or {' or '.join(shift.alternatives)}" if shift.alternatives else ""
        words.append(f"version {shift.version}, strength {shift.strength:.2f}{others}")
    return f"{name}: {state} ({'; '.join(words)})"


def strange_strengths(shifts: Sequence[InspectedShift]) -> list[str]:
    """Sentences on what is not as it was registered, or cannot be told from something else."""
    sentences = []
    for shift in shifts:
        reference = f"{shift.concept}@{shift.version}"
        bar = max(ALMOST, (shift.high - shift.low) / 2)
        if abs(shift.strength - 1) > bar:
            sentences.append(
                f"{reference} is inside at strength {shift.strength:.3g} "
                f"({shift.low:.3g} to {shift.high:.3g}), and was registered and measured at 1."
            )
        if shift.alternatives:
            sentences.append(
                f"{reference} cannot be told apart from {', '.join(shift.alternatives)}."
            )
    return sentences


def limits(match: BaseMatch) -> list[str]:
    """Sentences on what the file does not say."""
    sentences = list(match.change.left_out)
    if not match.values:
        sentences.append(
            "The file holds a difference alone: what else the model forgets depends on the weights "
            "that it is added to."
        )
    elif missing := len(match.unet) - len(match.values):
        sentences.append(
            f"The file lacks {missing} of {len(match.unet)} tensors of the base's UNet, so it says "
            "nothing about them."
        )
    return sentences


def verdict(match: BaseMatch, unexplained: Sequence[str], exact: bool, share: float) -> str:
    """All of an inspection in one sentence.

    Args:
        unexplained: Parameters of the UNet that nothing explains.
        share: Of the squared difference, what nothing explains.
    """
    if unexplained:
        return (
            f"{100 * max(share, 0.0):.2g}% of the difference from base '{match.name}' is "
            f"unexplained: another change is inside ({len(unexplained)} parameters)."
        )
    if match.change.elsewhere:
        return (
            f"The UNet is base '{match.name}' with the shifts named, and another change is inside "
            f"beside it, first '{match.change.elsewhere[0]}'."
        )
    if not match.deltas:
        return f"It is base '{match.name}' itself: no weight that it holds was changed."
    how = "bit for bit" if exact else "up to rounding"
    return f"All of the difference from base '{match.name}' is explained, {how}."


def unlike(match: BaseMatch) -> str:
    """Why a base of the right structure is not the file's."""
    if not match.values:
        return (
            f"A difference alone names no base: it fits '{match.name}' by its shapes, and shifts "
            f"of that base explain {match.explanation.explained:.0%} of it."
        )
    similarity = match.change.details["median_similarity"]
    resembles = "" if similarity is None else f" (median similarity {similarity:.3f})"
    return f"It is not base '{match.name}': no matrix of it is untouched{resembles}."
