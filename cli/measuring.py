"""The command ``measure``: how far images in folders are from each other."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Common, examples, with_common

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg measure images",
        "shiftreg measure images/base images/active images/without-picasso",
        "shiftreg measure images --clip clip-vit-large-patch14 --classifier styles.safetensors",
        "shiftreg measure originals mine theirs --inception inception.pth --nudity --json",
    )
)
@with_common
def measure(
    common: Common,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Images to compare with; or all that shiftreg generate made."
        ),
    ],
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="OTHER",
            help="Folders to compare; of a painting, its compositions by default.",
            show_default=False,
        ),
    ] = None,
    *,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Inception's weights, for FID (or SHIFTREG_INCEPTION_WEIGHTS; torch hub's cache).",
            show_default=False,
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A CLIP model, for how well images fit their prompts.",
            show_default=False,
        ),
    ] = None,
    nudity: Annotated[
        bool, typer.Option("--nudity", help="In how many images a body part is exposed.")
    ] = False,
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who says whether an image shows what its prompt names; by default the "
            "classifier of the base that generated FOLDER.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare folders of images with one of them, whoever made the images.

    LPIPS and style distance take images of the same file names; the Fréchet distance on AlexNet's
    features takes any. FID, CLIP score, nudity and accuracy are measured where what they need is
    there. Prompts are read from each folder's metadata.csv (file_name, prompt).
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_measuring

    with common.progress() as observe:
        found = api.measure_folders(
            workspace,
            folder,
            others or (),
            inception=inception,
            clip=clip,
            nudity=nudity,
            classifier=classifier,
            observe=observe,
        )
    common.show(found, render_measuring.measurements(found))
