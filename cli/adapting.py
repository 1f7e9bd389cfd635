"""The command about adapters: ``adapter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DryRunOption,
    ForceOption,
    WithoutOption,
    Writing,
    examples,
    with_common,
)
from .parsing import split_names

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg adapter Caravaggio caravaggio.safetensors",
        "shiftreg adapter Caravaggio Picasso both.safetensors --form kohya",
        "shiftreg adapter --without Picasso others.safetensors --dtype float16",
        "shiftreg adapter Caravaggio caravaggio.safetensors --form diff --dry-run",
    )
)
@with_common
def adapter(
    common: Writing,
    *,
    concepts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONCEPT",
            help="What the adapter erases; all that is erased by default.",
            show_default=False,
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
            min=1, metavar="N", help="Approximate each layer by this rank; exact by default."
        ),
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Write a file that switches concepts off in a running server.

    At strength 1 what it erases is erased, at 0 the model is as without it. Several add up.

    diffusers reads the form diffusers; A1111 and ComfyUI read kohya and diff.
    """
    left_out = split_names(without, "--without")
    if concepts and left_out:
        raise typer.BadParameter("Name what to erase, or what to leave out: not both.")
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render_adapters

    plan = api.plan_adapter(
        workspace, file, concepts or (), without=left_out, form=form, dtype=dtype, rank=rank
    )
    if dry_run:
        common.show(plan, render_adapters.plan(plan))
        common.note(f"Dry run: nothing was changed. It would write {file}.")
        return
    common.preview(render_adapters.plan(plan))
    with common.progress() as observe:
        result = api.export_adapter(
            workspace, plan, overwrite=force, reason=common.reason, observe=observe
        )
    common.show(result, render_adapters.result(result))
