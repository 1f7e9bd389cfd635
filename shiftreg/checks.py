"""A measurement against its limit: one line of a verification, or of an evaluation's goals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A measurement against its limit.

    Attributes:
        name: "separability", "noise", "images", "watermark", "erasure", "file" or "rounding".
        subject: What was looked at, e.g. a prompt or "Caravaggio -> Picasso".
        value: What was measured.
        limit: What it is compared with.
        passed: Whether it holds.
        explanation: One sentence.
    """

    name: str
    subject: str
    value: float
    limit: float
    passed: bool
    explanation: str

    @classmethod
    def at_most(
        cls, name: str, subject: str, value: float, limit: float, explanation: str
    ) -> Check:
        """A check that holds while the value does not exceed the limit."""
        return cls(name, subject, value, limit, value <= limit, explanation)

    @classmethod
    def at_least(
        cls, name: str, subject: str, value: float, limit: float, explanation: str
    ) -> Check:
        """A check that holds while the value reaches the limit."""
        return cls(name, subject, value, limit, value >= limit, explanation)
