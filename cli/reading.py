"""Commands that only read: ``list``, ``show``, ``capacity``, ``methods``."""

from pathlib import Path
from typing import Annotated

import typer

from shiftreg.concepts import Kind

from .options import Common, ForceOption, examples, with_common

commands = typer.Typer()


@commands.command("list", epilog=examples("shiftreg list", "shiftreg list --json"))
@with_common
def list_concepts(common: Common) -> None:
    """List the concepts of a base: which are erased, which generate."""
    workspace = common.workspace()
    from shiftreg import api

    from . import render

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

    from . import render

    detail = api.show_concept(workspace, concept)
    common.show(detail, render.concept(detail))


@commands.command(
    epilog=examples(
        "shiftreg capacity",
        'shiftreg capacity "Claude Monet" "Edvard Munch" --plot capacity.png',
        "shiftreg capacity Hokusai --profile exact --profile svd:0.001 --json",
    )
)
@with_common
def capacity(
    common: Common,
    concept: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONCEPT",
            help="Further concepts, in the order of their erasure; all by default.",
        ),
    ] = None,
    *,
    kind: Annotated[Kind, typer.Option(help="What the concepts are.")] = "style",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROFILE",
            help="exact, content:TOLERANCE or svd:TOLERANCE. Repeat; one of each by default.",
        ),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT", help="Leave this prompt exactly as it is, too. Repeat."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the predictions.")] = None,
    force: ForceOption = False,
) -> None:
    """Predict how many more concepts a base has room for; nothing is changed.

    A shift that leaves others alone exactly uses up dimensions of the text embedding; a profile
    with a tolerance uses fewer, and lets a bounded share through.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_plans

    request = {"profiles": tuple(profile)} if profile else {}
    with common.progress() as observe:
        rows = api.plan_capacity(
            workspace,
            concept or (),
            kind=kind,
            protect=protect or (),
            plot=plot,
            overwrite=force,
            observe=observe,
            **request,
        )
    common.show(rows, render_plans.capacity(rows))
    if plot is not None:
        common.note(f"Drawn: {plot}")


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

    from . import render_plans

    described = api.list_methods(method)
    common.show(described, render_plans.methods(described, with_options=bool(method)))
