"""Findings of the doctor, and the diagnosis that they make up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from shiftreg.registry.examination import Examined

Severity = Literal["damage", "leftover", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: "damage" is wrong, "leftover" is of an interrupted command and in nobody's way,
            "note" is worth knowing.
        subject: What it is about: a version, a file, the audit trail.
        remedy: What to do about it.
    """

    severity: Severity
    subject: str
    problem: str
    remedy: str


def damage(subject: str, problem: str, remedy: str) -> Finding:
    """A finding of damage."""
    return Finding("damage", subject, problem, remedy)


def unreadable(entry: Examined[Any]) -> Finding:
    """Says that a version in MLflow cannot be read."""
    return damage(
        f"{entry.name} version {entry.number}",
        entry.problem,
        "Undo the change in MLflow, or restore the registry from a backup.",
    )


@dataclass(frozen=True)
class Diagnosis:
    """The result of an examination.

    Attributes:
        examined: What was looked at -> how many: "versions", "exports", "events", ...
        findings: Damage first.
    """

    healthy: bool
    bases: tuple[str, ...]
    examined: dict[str, int]
    findings: tuple[Finding, ...]
    repaired: tuple[str, ...] = ()
