"""A verification as tables: its checks, and which shift disturbs which protected prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .console import safe
from .render import make_table, measured, number, pairs, warnings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shiftreg.api.values import Check, Verification

MOST_COLUMNS = 9  # shifts that fit beside a prompt in a terminal of 80 columns


def verification(result: Verification) -> RenderableType:
    """All of a verification; the matrix only while a terminal has room for it."""
    parts: list[RenderableType] = [checks(result.checks)]
    if 0 < len(result.separability) <= MOST_COLUMNS:
        parts.append(matrix(result.separability))
    parts += [
        Text(f"{safe(check.subject)}: {safe(check.explanation)}", style="red")
        for check in result.checks
        if not check.passed
    ]
    if result.rounding:
        parts.append(Text(safe(result.rounding.statement)))
    parts += warnings(result.plan.warnings)
    failed = sum(not check.passed for check in result.checks)
    verdict = f"{failed} of {len(result.checks)} checks failed" if failed else "All checks passed"
    subject = f"file {result.file}" if result.file else f"composition {result.plan.digest[:12]}"
    parts.append(
        Text(f"{verdict}: {safe(subject)}", style="bold green" if result.passed else "bold red")
    )
    parts.append(pairs({"report": result.report_path}))
    return Group(*parts)


def checks(lines: Sequence[Check]) -> RenderableType:
    """The checks, a row each; of separability, the worst pair of each shift."""
    table = make_table("Check", "Subject", "Value", "Limit", "Result")
    name = ""
    for check in worst_pairs(lines):
        if name and check.name != name:
            table.add_section()
        table.add_row(
            "" if check.name == name else safe(check.name),
            safe(check.subject),
            measured(check),
            number(check.limit),
            Text("ok", "green") if check.passed else Text("FAILED", "bold red"),
        )
        name = check.name
    return table


def worst_pairs(lines: Sequence[Check]) -> list[Check]:
    """The checks, with one separability check a shift: a failed one, else the largest."""
    worst: dict[str | int, Check] = {}
    for position, check in enumerate(lines):
        key: str | int = position
        if check.name == "separability":
            key = check.subject.partition(" -> ")[0]
        known = worst.get(key, check)
        worst[key] = max(known, check, key=lambda it: (not it.passed, it.value))
    return list(worst.values())


def matrix(residuals: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """Protected prompts by shifts: how much each shift moves each prompt, relative."""
    table = Table(title="Separability", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("Protected prompt", overflow="fold")
    for position in range(1, len(residuals) + 1):
        table.add_column(str(position), justify="right")
    prompts = dict.fromkeys(prompt for row in residuals.values() for prompt in row)
    for prompt in prompts:
        cells = (f"{row[prompt]:.0e}" if prompt in row else "" for row in residuals.values())
        table.add_row(safe(prompt) or '""', *cells)
    legend = ", ".join(f"{position} {safe(name)}" for position, name in enumerate(residuals, 1))
    return Group(table, Text(f"Shifts: {legend}", style="dim"))
