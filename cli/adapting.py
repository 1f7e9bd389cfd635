"""The command about adapters: ``adapter``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DryRunOption,
    ForceOption,
    WithoutOption,
    examples,
    with_common,
)
from .parsing import split_names
from .release_options import Releasing

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg adapter Caravaggio caravaggio.safetensors",
        "shiftreg adapter Caravaggio Picasso both.safetensors --form kohya",
        "shiftreg adapter --without Picasso others.safetensors --dtype float16",
        "shiftreg adapter Caravaggio caravaggio.safetensors --form diff --dry-run",
        "shiftreg adapter Caravaggio caravaggio.safetensors --sign --signing-key key.pem",
    )
)
@with_common
def adapter(
    common: Releasing,
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

    What breaks the policy of the project (see shiftreg policy), as far as that is about files, or
    with --verify a gate, is not written: exit code 1. The passphrase of a signing key is read from
    SHIFTREG_SIGNING_PASSPHRASE.
    """
    left_out = split_names(without, "--without")
    if concepts and left_out:
        raise typer.BadParameter("Name what to erase, or what to leave out: not both.")
    common.check_options()
    workspace = common.workspace(common.signing_key, dry_run=dry_run)
    from shiftreg import api

    from . import render_adapters, render_release

    plan = api.plan_adapter(
        workspace,
        file,
        api.Selection(concepts or None, left_out),
        form=form,
        dtype=dtype,
        rank=rank,
    )
    if dry_run:
        common.show(plan, render_adapters.plan(plan))
        common.note(f"Dry run: nothing was changed. It would write {file}.")
        return
    common.preview(render_adapters.plan(plan))
    with common.refusals_shown(file), common.progress() as observe:
        result = api.export_adapter(
            workspace,
            plan,
            overwrite=force,
            reason=common.reason,
            observe=observe,
            **common.release(),
        )
    common.show(result, render_adapters.result(result), *render_release.files(result))
