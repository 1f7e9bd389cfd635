"""The command that says what a deployed file forgets: ``inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from .failures import CHECK_FAILED
from .options import Common, examples, with_common

commands = typer.Typer()


@commands.command(
    "inspect",
    epilog=examples(
        "shiftreg inspect model.ckpt",
        "shiftreg inspect ./model-folder --json",
        "shiftreg inspect lora.safetensors",
    ),
)
@with_common
def inspect_file(
    common: Common,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .ckpt or .safetensors file, a diffusers folder, some weights, or a LoRA.",
        ),
    ],
) -> None:
    """Say from its weights alone which base and which shifts are inside a file.

    No recipe and no metadata is needed or believed: the file is compared with every registered
    base, and the difference is explained by registered shifts, each at its strength.

    Exit code 0 if all of the difference is explained, 1 if something else is inside or the base is
    not known.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_inspection

    with common.progress() as observe:
        result = api.inspect_file(workspace, file, observe=observe)
    common.show(result, render_inspection.inspection(result))
    if not result.passed:
        raise typer.Exit(CHECK_FAILED)
