"""Commands that gather what is on record about one concept: ``where``, ``evidence``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Common, ForceOption, Writing, examples, with_common

commands = typer.Typer()
ConceptArgument = Annotated[str, typer.Argument(metavar="CONCEPT", help="Name of a concept.")]
LookOption = Annotated[
    bool,
    typer.Option("--no-files", help="Do not compare the files with their digests: reads nothing."),
]


@commands.command(epilog=examples("shiftreg where Caravaggio", "shiftreg where Picasso --json"))
@with_common
def where(common: Common, concept: ConceptArgument, *, no_files: LookOption = False) -> None:
    """Say in which exported files a concept is erased, and in which it generates.

    Each file is compared with its digest: is it still there, and unchanged?
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_audit

    with common.progress() as observe:
        found = api.find_shift(workspace, concept, look=not no_files, observe=observe)
    common.show(found, render_audit.whereabouts(found))


@commands.command(
    epilog=examples(
        "shiftreg evidence Caravaggio caravaggio.html",
        "shiftreg evidence Caravaggio caravaggio.html --request C-17 --force",
    )
)
@with_common
def evidence(
    common: Writing,
    concept: ConceptArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write, HTML.")],
    *,
    no_files: LookOption = False,
    force: ForceOption = False,
) -> None:
    """Write a page about one concept for its rights-holder: request, erasure, proof, releases.

    It shows what is on record, with the digests and events that prove it, and how to check them.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_audit

    with common.progress() as observe:
        result = api.write_evidence(
            workspace, concept, file, look=not no_files, overwrite=force, observe=observe
        )
    common.show(result, render_audit.evidence(result))
