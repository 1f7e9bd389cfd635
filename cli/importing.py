"""Commands for shifts that were made elsewhere: ``import``, ``decouple``."""

from pathlib import Path
from typing import Annotated

import typer

from shiftreg.concepts import Kind

from .options import DryRunOption, Writing, examples, with_common

commands = typer.Typer()
RefitOption = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Decouple by a fit to what the shift does to the concept's own prompts, which keeps "
        "more of the erasure than the projection.",
    ),
]


@commands.command(
    "import",
    epilog=examples(
        "shiftreg import esd-caravaggio.safetensors --concept Caravaggio",
        "shiftreg import lora.safetensors --concept Picasso --decouple",
        "shiftreg import style-lora.safetensors --concept Picasso --strength -1 --dry-run",
    ),
)
@with_common
def import_shift(
    common: Writing,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A LoRA (diffusers, PEFT or kohya), a partial state dict, or a whole checkpoint.",
        ),
    ],
    *,
    concept: Annotated[str, typer.Option(metavar="NAME", help="What it erases.")],
    alias: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name of the concept. Repeat.")
    ] = None,
    kind: Annotated[Kind, typer.Option(help="What the concept is.")] = "style",
    decouple: Annotated[
        bool,
        typer.Option(
            "--decouple", help="Also make a version that leaves protected prompts exactly alone."
        ),
    ] = False,
    refit: RefitOption = False,
    strength: Annotated[
        float, typer.Option(metavar="X", help="Multiply the change; -1 turns it around.")
    ] = 1.0,
    unet_only: Annotated[
        bool, typer.Option("--unet-only", help="Leave another text encoder or autoencoder out.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Register an eraser that another tool made, as a version of a concept.

    Its change of the base's weights is kept with its origin. Only a decoupled version is
    separable: restoring and composing it disturbs nothing that is protected.
    """
    workspace = common.workspace(dry_run=dry_run)
    from shiftreg import api

    from . import render, render_plans

    foreign = api.read_import(
        workspace,
        file,
        concept,
        aliases=alias or (),
        kind=kind,
        strength=strength,
        unet_only=unet_only,
    )
    if dry_run:
        common.show(foreign.summary(), render_plans.foreign_shift(foreign))
        common.note("Dry run: nothing was changed.")
        return
    common.preview(render_plans.foreign_shift(foreign))
    with common.progress() as observe:
        results = api.import_shift(
            workspace,
            foreign,
            decouple=decouple or refit,
            refit=refit,
            reason=common.reason,
            observe=observe,
        )
    common.show(results, render.erasures(results))


@commands.command(
    epilog=examples("shiftreg decouple Caravaggio", "shiftreg decouple Caravaggio@2 --refit")
)
@with_common
def decouple(
    common: Writing,
    concept: Annotated[
        str, typer.Argument(metavar="CONCEPT[@VERSION]", help="The active version by default.")
    ],
    *,
    refit: RefitOption = False,
) -> None:
    """Make a separable version of a shift that was not trained to be.

    What it does to protected prompts is projected away; the result says what that cost in erasure
    and gained in separability. Both versions stay.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render

    with common.progress() as observe:
        result = api.decouple(
            workspace, concept, refit=refit, reason=common.reason, observe=observe
        )
    common.show((result,), render.erasures((result,)))
