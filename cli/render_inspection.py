"""An inspection as tables: the state of each concept, the shifts inside, what is unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import make_table, pairs, short, warnings

if TYPE_CHECKING:
    from shiftreg.api.inspection.inspecting import FoundShift, Inspection

STYLES = {
    "erased": "yellow",
    "weakened": "red",
    "reversed": "red",
    "generates": "green",
    "unknown": "red",
}
MOST_NAMES = 5  # parameters that are named; the others are counted


def inspection(result: Inspection) -> RenderableType:
    """All of an inspection; the verdict last."""
    parts: list[RenderableType] = [
        Text(safe(statement), STYLES[state])
        for statement, state in zip(result.statements, result.states.values(), strict=True)
    ]
    if result.shifts:
        parts.append(shifts(result.shifts))
    facts = {
        "file": f"{result.file} ({result.form})" if result.form else result.file,
        "digest": short(result.digest),
        "base": result.base or "not known",
        "numbers": result.dtype,
    }
    if result.base is not None:
        facts["difference"] = (
            f"{share(result.explained)} shifts, {share(result.rounding)} rounding, "
            f"{share(result.unexplained)} unexplained"
        )
    facts["changed with the shifts"] = some(result.disturbed)
    facts["changed elsewhere"] = some(result.elsewhere)
    parts += [pairs(facts), *warnings(result.warnings)]
    parts.append(Text(safe(result.verdict), "bold green" if result.passed else "bold red"))
    return Group(*parts)


def shifts(found: Sequence[FoundShift]) -> RenderableType:
    """The shifts that are inside, a row each."""
    table = make_table("Shift", "Method", "Digest", "Strength", "Between", "Or")
    for shift in found:
        table.add_row(
            safe(f"{shift.concept}@{shift.version}"),
            safe(shift.method),
            short(shift.digest),
            f"{shift.strength:.4f}",
            f"{shift.low:.4f} and {shift.high:.4f}",
            safe(", ".join(shift.alternatives)),
        )
    return table


def share(value: float) -> str:
    """A share in percent, however small."""
    return f"{value:.1%}" if value == 0 or value >= 0.001 else f"{100 * value:.1e}%"


def some(names: Sequence[str]) -> str:
    """The first of many names."""
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
