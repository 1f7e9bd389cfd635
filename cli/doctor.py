"""The command that examines the whole registry: ``doctor``."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .failures import fail_unless
from .options import Writing, command
from .render import verdict

if TYPE_CHECKING:
    from shiftreg.api.doctor.findings import Diagnosis

STYLES = {"damage": "bold red", "leftover": "yellow", "note": "cyan"}


@command(
    "Setup",
    "shiftreg doctor",
    "shiftreg doctor --json",
    'shiftreg doctor --repair --reason "the power failed during an export"',
)
def doctor(
    common: Writing,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Remove what interrupted commands left behind, and record in the audit trail what "
            "it lacks.",
        ),
    ] = False,
) -> None:
    """Examine everything that is registered, and say how to repair what is damaged.

    Every stored shift, report, base and exported file is compared with its digest, every record
    with the audit trail: this detects replaced files, edited tags, deleted versions, and models
    that were deleted and created again.

    Exit code 0 if nothing is damaged, else 1. Leftovers of interrupted commands are not damage.
    """
    workspace = common.workspace(dry_run=not repair)
    with common.progress() as observe:
        result = api.examine_registry(
            workspace, repair=repair, reason=common.reason, observe=observe
        )
    common.show(result, render_diagnosis(result))
    fail_unless(result.healthy)


def render_diagnosis(result: "Diagnosis") -> RenderableType:
    """All of a diagnosis, damage first."""
    parts: list[RenderableType] = []
    for finding in result.findings:
        style = STYLES[finding.severity]
        parts.append(
            Text.assemble((f"{finding.severity}  ", style), (safe(finding.subject), "bold"))
        )
        parts.append(Text(f"  {safe(finding.problem)}"))
        parts.append(Text(f"  -> {safe(finding.remedy)}", style="dim"))
    parts += [Text(f"repaired  {safe(line)}", style="green") for line in result.repaired]
    counts = ", ".join(f"{number} {name}" for name, number in result.examined.items())
    damaged = sum(finding.severity == "damage" for finding in result.findings)
    outcome = f"{damaged} damaged" if damaged else "Nothing is damaged"
    return Group(*parts, verdict(f"{outcome}: {counts} examined.", passed=not damaged))
