"""Commands about the audit trail: ``audit``, ``audit verify``, ``audit checkpoint``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import data_console, print_line, safe
from .failures import fail_unless
from .options import Common, ForceOption, command, commands, examples, with_common
from .render import count, make_table, pairs, short, verdict, warnings

group = typer.Typer()
commands.add_typer(group, name="audit", rich_help_panel="Evidence")


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
        str | None, typer.Option(metavar="NAME", help="Events about this concept.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Events by this person.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="erase, restore, export, ...")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="A date or time; UTC by default.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Likewise; a date is included.")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An exported file, or the beginning of its digest."),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table for spreadsheets.")] = False,
) -> None:
    """Show who did what, when and why: the audit trail, or a part of it."""
    if context.invoked_subcommand is not None:
        if given := [name for name, value in context.params.items() if value]:
            option = "--" + given[0].removeprefix("as_").replace("_", "-")
            raise typer.BadParameter(f"{option} goes after '{context.invoked_subcommand}'.")
        return
    workspace = common.workspace()
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
    common.show(events, render_timeline(events))


@command(
    group,
    "shiftreg audit verify",
    "shiftreg audit verify --checkpoint november.json --key auditor.pub",
    "shiftreg audit verify --head 9f2c... --json",
)
def verify(
    common: Common,
    *,
    head: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="An event that must still be there.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A checkpoint that the trail must continue.")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Public key of an accepted signer, or verifying_key in shiftreg.toml. Repeat.",
        ),
    ] = None,
    signed: Annotated[
        bool, typer.Option("--signed", help="Fail if an event is not signed by one of the keys.")
    ] = False,
) -> None:
    """Detect and locate any edit, deletion, insertion, reordering or fork of the trail.

    A trail that was cut off, or rewritten from some event on, is detected only with --head or
    --checkpoint: keep one where those who write the trail cannot write.

    Exit code 0 if it holds, 1 if not.
    """
    workspace = common.workspace()
    report = api.verify_trail(
        workspace, head=head, checkpoint=checkpoint, keys=key or (), all_signed=signed
    )
    common.show(report, render_trail(report))
    fail_unless(report.valid)


@command(
    group,
    "shiftreg audit checkpoint november.json",
    "shiftreg audit verify --checkpoint november.json",
)
def checkpoint(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    *,
    force: ForceOption = False,
) -> None:
    """Write the head of the trail to a file, so that later changes can be detected.

    It is signed if there is a signing key: signing_key in shiftreg.toml, or SHIFTREG_SIGNING_KEY.
    """
    workspace = common.workspace()
    made = api.write_checkpoint(workspace, file, overwrite=force)
    common.show(made, render_checkpoint(made, file))


def render_timeline(events: Sequence["api.AuditEvent"]) -> RenderableType:
    """Events, a row each."""
    if not events:
        return Text("No events.")
    rows = (
        (
            event.sequence,
            event.time[:19].replace("T", " "),
            event.actor,
            event.action,
            ", ".join(event.concepts),
            _why(event),
            short(event.digest),
        )
        for event in events
    )
    return make_table("Event", "When", "Who", "What", "Concepts", "Why", "Digest", rows=rows)


def _why(event: "api.AuditEvent") -> str:
    references = (("request", event.request), ("licence", event.licence))
    named = [f"{word} {text}" for word, text in references if text]
    return "; ".join([*named, *filter(None, [event.reason])])


def render_trail(found: "api.AuditReport") -> RenderableType:
    """What a verification of the trail found."""
    return Group(
        *(Text(safe(problem), style="red") for problem in found.problems),
        *warnings(found.notes),
        verdict(
            f"The trail {'holds' if found.valid else 'is DAMAGED'}: {count(found.count, 'event')}",
            passed=found.valid,
        ),
        pairs({"head": found.head if found.valid and found.count else ""}),
    )


def render_checkpoint(made: "api.Checkpoint", file: Path) -> RenderableType:
    """A checkpoint that was written."""
    return pairs(
        {
            "written": file,
            "event": made.sequence,
            "head": made.head,
            "signed by": made.key or "nobody: no signing key is set",
        }
    )
