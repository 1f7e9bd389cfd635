"""The command about what a project requires of its releases: ``policy``."""

import typer

from .failures import CHECK_FAILED
from .options import Common, OnlyOption, WithoutOption, examples, with_common
from .parsing import choose

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg policy",
        "shiftreg policy --without Picasso",
        "shiftreg policy --json",
    )
)
@with_common
def policy(
    common: Common,
    *,
    only: OnlyOption = None,
    without: WithoutOption = None,
) -> None:
    """Show what a release must hold, and how the composition stands against it.

    Requirements are the table policy of shiftreg.toml, limits the table gates. Nothing is measured
    anew: what is on record counts, and what is missing says what to run.

    Exit code 0 if all holds, 1 if something does not.
    """
    selection = choose(only, without)
    workspace = common.workspace()
    from shiftreg import api

    from . import render_release

    standing = api.policy_standing(workspace, selection)
    common.show(standing, render_release.policy(standing))
    if not standing.met:
        raise typer.Exit(CHECK_FAILED)
