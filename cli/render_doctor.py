"""A diagnosis as text: what was examined, what was found, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe

if TYPE_CHECKING:
    from shiftreg.api.doctor.findings import Diagnosis

STYLES = {"damage": "bold red", "leftover": "yellow", "note": "cyan"}


def diagnosis(result: Diagnosis) -> RenderableType:
    """All of a diagnosis, damage first."""
    parts: list[RenderableType] = []
    for finding in result.findings:
        parts.append(
            Text.assemble(
                (f"{finding.severity}  ", STYLES[finding.severity]), (safe(finding.subject), "bold")
            )
        )
        parts.append(Text(f"  {safe(finding.problem)}"))
        parts.append(Text(f"  -> {safe(finding.remedy)}", style="dim"))
    parts += [Text(f"repaired  {safe(line)}", style="green") for line in result.repaired]
    counts = ", ".join(f"{number} {name}" for name, number in result.examined.items())
    damaged = sum(finding.severity == "damage" for finding in result.findings)
    verdict = f"{damaged} damaged" if damaged else "Nothing is damaged"
    style = "bold red" if damaged else "bold green"
    parts.append(Text(f"{verdict}: {counts} were examined.", style=style))
    return Group(*parts)
