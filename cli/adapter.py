"""The command about adapters: ``adapter``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .options import DryRunOption, ForceOption, WithoutOption, command
from .parsing import split_names
from .policy import Releasing, render_sidecars
from .render import make_table, number, pairs, short, size, warnings

if TYPE_CHECKING:
    from shiftreg.api.composition.adapter import AdapterPlan, AdapterResult


@command(
    "Models",
    "shiftreg adapter Caravaggio caravaggio.safetensors",
    "shiftreg adapter Caravaggio Picasso both.safetensors --form kohya",
    "shiftreg adapter --without Picasso others.safetensors --dtype float16",
    "shiftreg adapter Caravaggio caravaggio.safetensors --form diff --dry-run",
    "shiftreg adapter Caravaggio c.safetensors --sign --signing-key key.pem",
)
def adapter(
    common: Releasing,
    *,
    concepts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONCEPT", help="Concepts to erase; all that are erased by default."
        ),
    ] = None,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors file to write.")],
    form: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="diffusers or kohya (LoRAs), or diff (dense differences: any shift, lossless).",
        ),
    ] = "diffusers",
    without: WithoutOption = None,
    dtype: Annotated[
        str,
        typer.Option(metavar="NAME", help="float32 is exact; float16 and bfloat16 are rounded."),
    ] = "float32",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Approximate each layer at this rank; exact by default."
        ),
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write a file that switches concepts off in a running server.

    At strength 1 its concepts are erased, at 0 the model is unchanged. Several add up.

    diffusers reads the form diffusers; A1111 and ComfyUI read kohya and diff.

    A file that breaks the project's policy for files (see shiftreg policy) or, with --verify, a
    gate, is not written: exit code 1. The passphrase of a signing key is read from
    SHIFTREG_SIGNING_PASSPHRASE.
    """
    excluded = split_names(without, "--without")
    if concepts and excluded:
        raise typer.BadParameter("Name the concepts to erase, or those to exclude: not both.")
    common.check_options()
    workspace = common.workspace(common.signing_key, dry_run=dry_run)
    plan = api.plan_adapter(
        workspace,
        file,
        api.Selection(concepts or None, excluded),
        form=form,
        dtype=dtype,
        rank=rank,
    )
    note = f"nothing was changed. It would write {file}."
    if common.plan(plan, render_plan(plan), dry_run=dry_run, note=note):
        return
    with common.refusals_shown(file), common.progress() as observe:
        result = api.export_adapter(
            workspace, plan, overwrite=force, request=common.release(), observe=observe
        )
    common.show(result, render_adapter(result), *render_sidecars(result))


def render_plan(plan: "AdapterPlan") -> RenderableType:
    """What an adapter would hold."""
    shifts = sorted(plan.plan.shifts, key=lambda shift: shift[0].lower())
    rows = ((name, f"version {version}, {short(digest)}") for name, version, digest in shifts)
    facts = pairs(
        {
            "form": f"{plan.form}, {plan.dtype}",
            "changes": f"{plan.parameters} parameters",
            "rank": f"{plan.ranks[0]} to {plan.ranks[-1]}" if len(plan.ranks) > 1 else plan.ranks,
            "tensors": f"{plan.size / 1e6:.1f} MB",
        }
    )
    return Group(
        make_table("Concept", "Shift", rows=rows),
        facts,
        Text(safe(plan.strength), "bold"),
        *warnings(plan.warnings),
    )


def render_adapter(result: "AdapterResult") -> RenderableType:
    """An adapter that was written."""
    drift = "as the shifts do: they are stored exactly" if result.exact else None
    if result.max_drift is not None:
        drift = f"by {number(result.max_drift)}"
    if result.plain_drift is not None:
        drift = f"{drift} (plain rounding: {number(result.plain_drift)})"
    exact = result.change_kept == 1
    return pairs(
        {
            "written": result.path,
            "size": size(result.path),
            "digest": result.digest,
            "moves protected prompts": drift,
            "each layer keeps": None
            if exact
            else f"{result.change_kept:.1%} of the change, or more",
            "recipe": result.recipe_path,
            "card": result.card_path,
            "registered": f"composition version {result.version}",
        }
    )
