"""Commands that only read: ``list``, ``show``, ``methods``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import render
from .options import Common, examples, with_common

commands = typer.Typer()


@commands.command("list", epilog=examples("shiftreg list", "shiftreg list --json"))
@with_common
def list_concepts(common: Common) -> None:
    """List the concepts of a base: which are erased, which generate."""
    workspace = common.workspace()
    from shiftreg import api

    states = api.list_concepts(workspace)
    common.show(states, render.concepts(states))


@commands.command(epilog=examples("shiftreg show Caravaggio", "shiftreg show Caravaggio@1 --json"))
@with_common
def show(
    common: Common,
    concept: Annotated[str, typer.Argument(metavar="CONCEPT[@VERSION]", help="What to show.")],
) -> None:
    """Show a concept: its state, versions, metrics and history."""
    workspace = common.workspace()
    from shiftreg import api

    detail = api.show_concept(workspace, concept)
    common.show(detail, render.concept(detail))


@commands.command(epilog=examples("shiftreg methods", "shiftreg methods srs-me"))
@with_common
def methods(
    common: Common,
    method: Annotated[
        list[str] | None, typer.Argument(metavar="METHOD", help="Names of methods.")
    ] = None,
) -> None:
    """List the methods of erasing; those that are named with what --set takes, too."""
    from shiftreg import api

    described = api.list_methods(method)
    common.show(described, render.methods(described, with_options=bool(method)))
