"""The command that removes something from the registry: ``delete``."""

from typing import Annotated

import typer
from rich.console import RenderableType

from shiftreg import api

from .options import DryRunOption, Writing, YesOption, command
from .render import pairs, short


@command(
    "Concepts",
    'shiftreg delete Caravaggio@1 --reason "trained on the wrong prompts" --dry-run',
    'shiftreg delete Caravaggio@1 --reason "trained on the wrong prompts" --yes',
    'shiftreg delete --composition 3 --reason "never released"',
    'shiftreg delete Caravaggio@2 --reason "licence signed" --force',
)
def delete(
    common: Writing,
    version: Annotated[
        str | None, typer.Argument(metavar="NAME@VERSION", help="A version of a concept's shift.")
    ] = None,
    *,
    composition: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Or the record of an export.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete what is active, or needed to verify an export.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete one version of a shift, or the record of an export. A reason is required.

    Exported files stay where they are, and the audit trail keeps the history. MLflow keeps what
    it deletes until "mlflow gc", and never reuses the version number.
    """
    if (version is None) == (composition is None):
        raise typer.BadParameter("Name what to delete: NAME@VERSION, or --composition N.")
    common.require_reason("--reason is missing: why is it deleted?")
    workspace = common.workspace(dry_run=dry_run)
    plan = api.plan_deletion(workspace, version, composition=composition)
    if dry_run or force or not plan.objections:  # what is refused need not be asked about
        if common.plan(plan, render_deletion(plan), dry_run=dry_run):
            return
        common.confirm(f"Delete {plan.subject}?", yes=yes)
    done = api.delete(
        workspace, version, composition=composition, reason=common.reason, force=force
    )
    common.show(done, render_deletion(done))


def render_deletion(deletion: "api.Deletion") -> RenderableType:
    """What is or would be deleted, and the objections to it."""
    return pairs(
        {
            "deleted" if deletion.done else "to delete": deletion.subject,
            "erases": ", ".join(deletion.concepts),
            "digest": short(deletion.digest),
            "created": deletion.created,
            "but": " ".join(deletion.objections),
        }
    )
