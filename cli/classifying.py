"""Commands about the classifiers that judge pictures: ``classifier train|test|imagenet``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import Common, ForceOption, Writing, examples, with_common
from .parsing import split_names

commands = typer.Typer(
    name="classifier",
    no_args_is_help=True,
    help="Train and test the classifier that says whether a concept is in a picture.",
    epilog=examples("shiftreg classifier train", "shiftreg classifier test ./pictures"),
)


@commands.command(
    epilog=examples(
        "shiftreg classifier train",
        'shiftreg classifier train --base sd15 --concept "Van Gogh,Picasso" --images 200',
        "shiftreg classifier train --network resnet18 --weights resnet18-f37072fd.pth --force",
        "shiftreg classifier train ./pictures --out styles.safetensors",
    )
)
@with_common
def train(
    common: Writing,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Pictures, each in a subfolder that is its class; painted by the base by default.",
            show_default=False,
        ),
    ] = None,
    *,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Concepts to paint; all of the base by default. Repeat, or separate by commas.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=2, metavar="N", help="Pictures to paint of each class.")
    ] = 100,
    network: Annotated[
        Literal["small", "resnet18"],
        typer.Option(help="From scratch; or with features from ImageNet."),
    ] = "small",
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="torchvision's ResNet18 as .safetensors or .pth; its download by default.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Passes over the pictures.", show_default=False),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="X", help="The highest of its cycle.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of pictures and training.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to; by default where other commands look for the base's classifier.",
            show_default=False,
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Train the classifier that pictures of a base are judged by.

    It learns from 70% of the pictures of each class, and is measured on the rest. Without FOLDER,
    the base paints them: each concept in many wordings, and ordinary pictures as the class "plain".
    """
    concepts = split_names(concept, "--concept") or ()
    workspace = common.workspace()
    from shiftreg import api

    from . import render_classifiers as render

    with common.progress() as observe:
        result = api.train_classifier(
            workspace,
            folder,
            concepts=concepts,
            images=images,
            network=network,
            weights=weights,
            epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
            out=out,
            overwrite=force,
            observe=observe,
        )
    common.show(result, render.trained(result))


@commands.command(
    "test",
    epilog=examples(
        "shiftreg classifier test ./pictures",
        "shiftreg classifier test ./pictures --classifier styles.safetensors --json",
    ),
)
@with_common
def examine(
    common: Common,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Pictures, each in a subfolder that is named after its class.",
        ),
    ],
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--classifier",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The classifier; the base's by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Test a classifier on pictures whose classes are known."""
    workspace = common.workspace()
    from shiftreg import api

    from . import render_classifiers as render

    result = api.test_classifier(workspace, folder, file)
    common.show(result, render.tested(result))


@commands.command(
    epilog=examples(
        "shiftreg classifier imagenet --out objects.safetensors",
        "shiftreg classifier imagenet resnet50-11ad3fa6.pth --out objects.safetensors",
    )
)
@with_common
def imagenet(
    common: Common,
    weights: Annotated[
        Path | None,
        typer.Argument(
            metavar="WEIGHTS",
            exists=True,
            dir_okay=False,
            help="torchvision's ResNet50 as .safetensors or .pth; its download by default.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to.", show_default=False)],
    force: ForceOption = False,
) -> None:
    """Make a classifier of ImageNet's thousand objects from torchvision's ResNet50.

    Its labels are torchvision's categories, such as "church" and "golf ball": name concepts so.
    """
    from shiftreg import api

    from . import render_classifiers as render

    result = api.imagenet_classifier(weights, out, overwrite=force)
    common.show(result, render.imagenet(result))
