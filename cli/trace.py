"""Commands that gather what is on record about one concept: ``where``, ``evidence``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .options import Common, ForceOption, Writing, command
from .render import STATE_STYLES, make_table, pairs, short, warnings

if TYPE_CHECKING:
    from shiftreg.api.trail.evidence import EvidenceResult
    from shiftreg.api.trail.exports import ConceptExports

FILE_STYLES = {"unchanged": "green", "changed": "bold red", "missing": "red"}
ConceptArgument = Annotated[str, typer.Argument(metavar="CONCEPT", help="Name of a concept.")]
LookOption = Annotated[
    bool, typer.Option("--no-files", help="Do not read the files to compare their digests.")
]


@command("Evidence", "shiftreg where Caravaggio", "shiftreg where Picasso --json")
def where(common: Common, concept: ConceptArgument, *, no_files: LookOption = False) -> None:
    """List the exported files in which a concept is erased, or generates.

    Each file is compared with its digest: is it still there, and unchanged?
    """
    workspace = common.workspace()
    with common.progress() as observe:
        found = api.exports_of(workspace, concept, look=not no_files, observe=observe)
    common.show(found, render_exports(found))


@command(
    "Evidence",
    "shiftreg evidence Caravaggio caravaggio.html",
    "shiftreg evidence Caravaggio caravaggio.html --request C-17 --force",
)
def evidence(
    common: Writing,
    concept: ConceptArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="HTML page to write.")],
    *,
    no_files: LookOption = False,
    force: ForceOption = False,
) -> None:
    """Write a page about one concept for its rights-holder: request, erasure, proof, releases.

    It shows what is on record, with the digests and events that prove it, and how to check them.
    """
    workspace = common.workspace()
    with common.progress() as observe:
        result = api.write_evidence(
            workspace, concept, file, look=not no_files, overwrite=force, observe=observe
        )
    common.show(result, render_evidence(result))


def render_exports(found: "ConceptExports") -> RenderableType:
    """The exports that contain or lack a concept's shift, a row each."""
    now = Text(safe(f"{found.concept}: {found.now} in the default composition"))
    if not found.exports:
        return Group(now, Text("No export is on record."))
    rows = (
        (
            Text(safe(export.state), style=STATE_STYLES.get(export.state, "")),
            export.statement,
            export.created[:19].replace("T", " "),
            export.actor,
            Text(
                safe(f"on {export.host}" if export.file == "elsewhere" else export.file),
                style=FILE_STYLES.get(export.file, ""),
            ),
            export.path,
            short(export.digest),
        )
        for export in found.exports
    )
    columns = "Concept", "Described", "Written", "Who", "File", "Path", "Digest"
    silent = [export.name for export in found.exports if not export.in_trail]
    remarks = [f"The audit trail has no event for {', '.join(silent)}."] if silent else []
    return Group(now, make_table(*columns, rows=rows), *warnings(remarks))


def render_evidence(result: "EvidenceResult") -> RenderableType:
    """A page that was written."""
    facts = {
        "written": result.path,
        "about": result.concept,
        "events": result.events,
        "releases": result.releases,
        "digest": result.digest,
        "head": result.head,
    }
    damage = [f"The audit trail is damaged, and the page says so: {p}" for p in result.problems]
    return Group(pairs(facts), *warnings(damage))
