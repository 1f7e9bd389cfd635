"""The command that takes something out of the registry: ``delete``."""

from typing import Annotated

import typer

from .options import DryRunOption, Writing, examples, with_common

commands = typer.Typer()


@commands.command(
    epilog=examples(
        'shiftreg delete Caravaggio@1 --reason "trained on the wrong prompts" --dry-run',
        'shiftreg delete Caravaggio@1 --reason "trained on the wrong prompts" --yes',
        'shiftreg delete --composition 3 --reason "never released"',
        'shiftreg delete Caravaggio@2 --reason "licence signed" --force',
    )
)
@with_common
def delete(
    common: Writing,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME@VERSION", help="A version of a concept's shift.", show_default=False
        ),
    ] = None,
    *,
    composition: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Or the record of an export.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Delete what is active, or in exports that it is needed to verify."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete one version of a shift, or the record of an export. A reason must be given.

    Files that were exported stay where they are, and the audit trail keeps the story. MLflow keeps
    what it deletes until "mlflow gc", and gives the number to no other version.
    """
    if (version is None) == (composition is None):
        raise typer.BadParameter("Say what to delete: NAME@VERSION, or --composition N.")
    if not common.reason.strip():
        raise typer.BadParameter("--reason is missing: why is it deleted?")
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render

    plan = api.plan_deletion(workspace, version, composition=composition)
    if dry_run:
        common.show(plan, render.deletion(plan))
        common.note("Dry run: nothing was changed.")
        return
    if force or not plan.objections:  # what is refused need not be asked about
        common.preview(render.deletion(plan))
        common.confirm(f"Delete {plan.subject}?", yes=yes)
    done = api.delete(
        workspace, version, composition=composition, reason=common.reason, force=force
    )
    common.show(done, render.deletion(done))
