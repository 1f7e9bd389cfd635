"""Commands for shifts that were made elsewhere: ``import``, ``decouple``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from shiftreg import api
from shiftreg.concepts import Kind

from .options import AliasOption, DryRunOption, Writing, command
from .render import erasures, make_panel, pairs, warnings

if TYPE_CHECKING:
    from shiftreg.api.erasure.foreign import ForeignShift

RefitOption = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="Decouple by refitting what the shift does to the concept's own prompts; this keeps "
        "more of the erasure than projecting.",
    ),
]


@command(
    "Concepts",
    "shiftreg import esd-caravaggio.safetensors --concept Caravaggio",
    "shiftreg import lora.safetensors --concept Picasso --decouple",
    "shiftreg import style.safetensors --concept Picasso --strength -1 --dry-run",
    name="import",
)
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
    alias: AliasOption = None,
    kind: Annotated[Kind, typer.Option(help="What the concept is.")] = "style",
    decouple: Annotated[
        bool,
        typer.Option(
            "--decouple", help="Also make a version that leaves protected prompts exactly alone."
        ),
    ] = False,
    refit: RefitOption = False,
    strength: Annotated[
        float, typer.Option(metavar="X", help="Multiply the change; -1 reverses it.")
    ] = 1.0,
    unet_only: Annotated[
        bool, typer.Option("--unet-only", help="Ignore changes of text encoder and autoencoder.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Register an eraser that another tool made, as a version of a concept.

    Its change of the base's weights is stored with its origin. Only a decoupled version is
    separable: restoring and composing it disturbs nothing that is protected.
    """
    workspace = common.workspace(dry_run=dry_run)
    foreign = api.read_import(
        workspace,
        file,
        concept,
        aliases=alias or (),
        kind=kind,
        strength=strength,
        unet_only=unet_only,
    )
    if common.plan(foreign.summary(), render_foreign(foreign), dry_run=dry_run):
        return
    with common.progress() as observe:
        results = api.import_shift(
            workspace,
            foreign,
            decouple=decouple or refit,
            refit=refit,
            reason=common.reason,
            observe=observe,
        )
    common.show(results, erasures(results))


@command("Concepts", "shiftreg decouple Caravaggio", "shiftreg decouple Caravaggio@2 --refit")
def decouple(
    common: Writing,
    concept: Annotated[
        str, typer.Argument(metavar="CONCEPT[@VERSION]", help="The active version by default.")
    ],
    *,
    refit: RefitOption = False,
) -> None:
    """Make a separable version of a shift that was not trained to be separable.

    What it does to protected prompts is projected away; the result says what that cost in erasure
    and gained in separability. Both versions are kept.
    """
    workspace = common.workspace()
    with common.progress() as observe:
        result = api.decouple(
            workspace, concept, refit=refit, reason=common.reason, observe=observe
        )
    common.show((result,), erasures((result,)))


def render_foreign(foreign: "ForeignShift") -> RenderableType:
    """What a file of another tool would register, in a panel."""
    rows = {key: value for key, value in foreign.summary().items() if key != "left_out"}
    title = f"Import {foreign.path.name} as a shift of {foreign.concept.name}"
    return make_panel(title, pairs(rows), *warnings(foreign.left_out))
