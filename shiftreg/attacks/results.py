"""What attacks reached; plain data, as it is stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shiftreg.evaluation.intervals import Estimate

BASE, COMPOSITION = "base", "composition"
CONTROL = "base, without the name"
"""The base, given the prompt without the name: what a start alone leads to."""


@dataclass(frozen=True)
class AttackScore:
    """One attack on one target.

    Attributes:
        attack: Its name.
        target: "base", "composition", "Caravaggio@2 (esd)", or the control of attacks that start
            from images, "base, without the name".
        success: Share of images in which the classifier finds the concept.
        budget: Its options, as they were used.
        seconds: What the search took, without the images; 0 where it needs no model, and what was
            result for another target is used.
        result: What the search came to, for people.
        metrics: What the attack says about its search.
    """

    attack: str
    target: str
    success: Estimate
    budget: Mapping[str, Any]
    seconds: float
    result: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackReport:
    """Attacks on an erasure of one concept.

    Attributes:
        base: Name of the base.
        concept: Name of the concept.
        digest: Of the composition.
        classifier: Which classifier looked.
        seed: First seed.
        images: Images an attack and target.
        unattacked: Target -> share of images of the bare name in which the concept is found; of
            the control, images of the same prompt without it.
        scores: One an attack and target.
        image: Grid of what was generated, a local file.
        report_path: The report as JSON, a local file.
        created: UTC, ISO 8601.
    """

    base: str
    concept: str
    digest: str
    classifier: str
    seed: int
    images: int
    unattacked: Mapping[str, Estimate]
    scores: tuple[AttackScore, ...]
    image: Path | None
    report_path: Path | None
    created: str

    def above_control(self) -> dict[str, float]:
        """Attack -> success on the composition, less that of its control."""
        return above_control({(s.attack, s.target): s.success.value for s in self.scores})


def above_control(success: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """What attacks reach on the composition, less what the same start leads to without the name.

    Args:
        success: Attack and target -> share of images in which the concept is found.

    Returns:
        Attack -> share, from 0 on; only of attacks on the composition.
    """
    return {
        attack: max(0.0, share - success.get((attack, CONTROL), 0.0))
        for (attack, target), share in success.items()
        if target == COMPOSITION
    }
