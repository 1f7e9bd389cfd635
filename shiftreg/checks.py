"""A measurement against its limit: one line of a verification, or of an evaluation's goals."""

from __future__ import annotations

from dataclasses import dataclass

from shiftreg.evaluation.intervals import Estimate


@dataclass(frozen=True)
class Check:
    """A measurement against its limit.

    Attributes:
        name: "separability", "noise", "remaining", "images", "watermark", "erasure", "file" or
            "rounding".
        subject: What was looked at, e.g. a prompt or "Caravaggio -> Picasso".
        limit: What it is compared with.
        interval: Lower and upper end of the value's 95% interval, where it is an average over
            images: a rate, for instance.
    """

    name: str
    subject: str
    value: float
    limit: float
    passed: bool
    explanation: str
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Takes the interval as JSON has it, too: a list."""
        if self.interval is not None:
            low, high = self.interval
            object.__setattr__(self, "interval", (float(low), float(high)))

    @classmethod
    def at_most(
        cls, name: str, subject: str, value: float | Estimate, limit: float, explanation: str
    ) -> Check:
        """A check that holds while the value does not exceed the limit.

        An estimate is compared by its value, and brings its interval.
        """
        number, interval = _parts(value)
        return cls(name, subject, number, limit, number <= limit, explanation, interval)

    @classmethod
    def at_least(
        cls, name: str, subject: str, value: float | Estimate, limit: float, explanation: str
    ) -> Check:
        """A check that holds while the value reaches the limit; else as :meth:`at_most`."""
        number, interval = _parts(value)
        return cls(name, subject, number, limit, number >= limit, explanation, interval)


def _parts(value: float | Estimate) -> tuple[float, tuple[float, float] | None]:
    if not isinstance(value, Estimate):
        return value, None
    # No wider than a point, it is that of equal values, or of a single one: it says nothing.
    return value.value, (value.low, value.high) if value.low < value.high else None
