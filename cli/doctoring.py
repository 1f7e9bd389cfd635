"""The command that examines the whole registry: ``doctor``."""

from typing import Annotated

import typer

from . import render_doctor
from .failures import CHECK_FAILED
from .options import Writing, examples, with_common

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg doctor",
        "shiftreg doctor --json",
        'shiftreg doctor --repair --reason "the power failed during an export"',
    )
)
@with_common
def doctor(
    common: Writing,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take away what interrupted commands left, and tell the audit trail of what it "
            "does not know.",
        ),
    ] = False,
) -> None:
    """Examine everything that is registered, and say how to repair what is damaged.

    Every stored shift, report, base and exported file is compared with its digest, every record
    with the audit trail: replaced files, edited tags, deleted versions and models that were deleted
    and made again are noticed.

    Exit code 0 if nothing is damaged, else 1. Leftovers of interrupted commands are no damage.
    """
    workspace = common.workspace(dry_run=not repair)
    from shiftreg import api

    with common.progress() as observe:
        result = api.examine_registry(
            workspace, repair=repair, reason=common.reason, observe=observe
        )
    common.show(result, render_doctor.diagnosis(result))
    if not result.healthy:
        raise typer.Exit(CHECK_FAILED)
