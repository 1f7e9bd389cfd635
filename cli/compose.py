"""The command about models with shifts: ``compose``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .options import DryRunOption, ForceOption, OnlyOption, WithoutOption, command
from .parsing import choose
from .policy import Releasing, render_sidecars
from .render import STATE_STYLES, make_table, pairs, short, size, warnings

if TYPE_CHECKING:
    from shiftreg.api.values import CompositionPlan, ExportResult


@command(
    "Models",
    "shiftreg compose",
    "shiftreg compose --without Picasso --export model.ckpt",
    'shiftreg compose --only "Caravaggio,Van Gogh" --export model.safetensors',
    "shiftreg compose --export model.safetensors --dtype float16",
    "shiftreg compose --export ./model-folder --dry-run",
    "shiftreg compose --export model.safetensors --verify",
    "shiftreg compose --export model.safetensors --sign --signing-key key.pem",
    'shiftreg compose --export model.ckpt --override --reason "for the auditor"',
)
def compose(
    common: Releasing,
    *,
    only: OnlyOption = None,
    without: WithoutOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the model: .ckpt, .safetensors, or a diffusers folder."
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="float32, float16 or bfloat16; the base's by default."),
    ] = None,
    rounding: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="In half precision: compensated (protected prompts hardly move) or plain (fast).",
        ),
    ] = "compensated",
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Say what a model with the active shifts generates, and write it as one file.

    By default every active shift applies. A recipe is written beside the file, from which anyone
    can make the same file again. A file that breaks the project's policy (see shiftreg policy) or,
    with --verify, a gate, is not written: exit code 1.

    The passphrase of a signing key is read from SHIFTREG_SIGNING_PASSPHRASE.
    """
    selection = choose(only, without)
    if export is None and (dtype or force or common.is_asked_for()):
        raise typer.BadParameter(
            "--dtype, --force, --verify, --sign, --signing-key, --bill and --override require "
            "--export FILE."
        )
    common.check_options()
    workspace = common.workspace(common.signing_key, dry_run=export is None or dry_run)
    plan = api.plan_composition(workspace, selection)
    if export is None and not dry_run:
        common.show(plan, render_composition(plan))
        return
    note = f"nothing was changed. It would write {export}." if export else "nothing was changed."
    if common.plan(plan, render_composition(plan), dry_run=dry_run, note=note):
        return
    assert export is not None
    with common.refusals_shown(export), common.progress() as observe:
        result = api.export_composition(
            workspace,
            plan,
            export,
            dtype=dtype,
            rounding=rounding,
            overwrite=force,
            request=common.release(),
            observe=observe,
        )
    common.show(result, render_export(result), *render_sidecars(result))


def render_composition(plan: "CompositionPlan") -> RenderableType:
    """Which concepts a composition erases, a row each."""
    digests = {name: digest for name, _, digest in plan.shifts}
    states = zip(plan.states.items(), plan.statements, strict=True)
    rows = (
        (
            name,
            Text(safe(statement.removeprefix(f"{name}: ")), STATE_STYLES[state]),
            short(digests.get(name, "")),
        )
        for (name, state), statement in states
    )
    summary = (
        f"Composition {short(plan.digest)} of base {safe(plan.base)} {short(plan.base_digest)}"
    )
    table = make_table("Concept", "State", "Shift", rows=rows)
    return Group(table, Text(summary), *warnings(plan.warnings))


def render_export(result: "ExportResult") -> RenderableType:
    """A checkpoint that was written."""
    return pairs(
        {
            "written": result.path,
            "format": f"{result.format}, {result.dtype}",
            "size": size(result.path),
            "digest": result.digest,
            "recipe": result.recipe_path,
            "card": result.card_path,
            "registered": f"composition version {result.version}",
            "rounding": result.rounding.statement if result.rounding else None,
        }
    )
