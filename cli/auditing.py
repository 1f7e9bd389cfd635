"""Commands about the audit trail: ``audit``, ``audit verify``, ``audit checkpoint``."""

from pathlib import Path
from typing import Annotated

import typer

from .console import data_console, print_line
from .failures import CHECK_FAILED
from .options import Common, ForceOption, examples, with_common

commands = typer.Typer()
group = typer.Typer()
commands.add_typer(group, name="audit")


@group.callback(
    invoke_without_command=True,
    epilog=examples(
        "shiftreg audit",
        "shiftreg audit --concept Caravaggio --since 2026-11-01",
        "shiftreg audit --export model.ckpt --json",
        "shiftreg audit --action restore --csv > restored.csv",
        "shiftreg audit verify",
    ),
)
@with_common
def audit(
    common: Common,
    context: typer.Context,
    *,
    concept: Annotated[
        str | None, typer.Option(metavar="NAME", help="About this concept.", show_default=False)
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="By this person.", show_default=False)
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="erase, restore, export, ...", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A date or time; UTC by default.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Likewise; a date includes it.", show_default=False),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="An exported file, or the beginning of a digest.",
            show_default=False,
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table for spreadsheets.")] = False,
) -> None:
    """Show who did what, when and why: the audit trail, all of it or a part."""
    if context.invoked_subcommand is not None:
        if given := [name for name, value in context.params.items() if value]:
            option = "--" + given[0].removeprefix("as_").replace("_", "-")
            raise typer.BadParameter(f"{option} stands after '{context.invoked_subcommand}'.")
        return
    workspace = common.workspace()
    from shiftreg import api

    from . import render_audit

    events = api.list_events(
        workspace,
        concept=concept,
        actor=actor,
        action=action,
        since=since,
        until=until,
        export=export,
    )
    if as_csv:
        for line in api.events_csv(events).split("\n")[:-1]:
            print_line(data_console(), line)
        return
    common.show(events, render_audit.timeline(events))


@group.command(
    epilog=examples(
        "shiftreg audit verify",
        "shiftreg audit verify --checkpoint november.json --key auditor.pub",
        "shiftreg audit verify --head 9f2c... --json",
    )
)
@with_common
def verify(
    common: Common,
    *,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST", help="An event that must still be there.", show_default=False
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A checkpoint that the trail must continue.", show_default=False
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Public key of who may sign, or verifying_key in shiftreg.toml. Repeat.",
            show_default=False,
        ),
    ] = None,
    signed: Annotated[
        bool,
        typer.Option("--signed", help="Fail if an event is not signed by one of the keys."),
    ] = False,
) -> None:
    """Find any edit, deletion, insertion, reordering or fork of the trail, and say where.

    What was cut off the end, or rewritten from some event on, shows by --head or --checkpoint
    only: keep one where who writes the trail cannot write.

    Exit code 0 if it holds, 1 if not.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_audit

    report = api.verify_trail(
        workspace, head=head, checkpoint=checkpoint, keys=key or (), all_signed=signed
    )
    common.show(report, render_audit.report(report))
    if not report.valid:
        raise typer.Exit(CHECK_FAILED)


@group.command(
    epilog=examples(
        "shiftreg audit checkpoint november.json",
        "shiftreg audit verify --checkpoint november.json",
    )
)
@with_common
def checkpoint(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    *,
    force: ForceOption = False,
) -> None:
    """Write the head of the trail to a file, by which later changes can be shown.

    It is signed if there is a signing key: signing_key in shiftreg.toml, or SHIFTREG_SIGNING_KEY.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_audit

    made = api.write_checkpoint(workspace, file, overwrite=force)
    common.show(made, render_audit.checkpoint(made, file))
