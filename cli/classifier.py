"""Commands about what recognises concepts in images: ``classifier train|test|imagenet``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group, RenderableType

from shiftreg import api

from .options import FILE, FOLDER, Common, ForceOption, Writing, command, commands, examples
from .parsing import split_names
from .render import make_matrix, make_table, pairs, size

if TYPE_CHECKING:
    from shiftreg.api.evaluation.classify import (
        ClassifierResult,
        ClassifierTest,
        ImagenetClassifier,
    )
    from shiftreg.api.values import Estimate

    Confusion = Mapping[str, Mapping[str, int]]

MOST_COLUMNS = 12  # answers that fit beside a class in a terminal of 80 columns
group = typer.Typer()
commands.add_typer(
    group,
    name="classifier",
    no_args_is_help=True,
    rich_help_panel="Measure",
    help="Train and test the classifier that recognises concepts in images.",
    epilog=examples("shiftreg classifier train", "shiftreg classifier test ./images"),
)


@command(
    group,
    "shiftreg classifier train",
    'shiftreg classifier train --concept "Van Gogh,Picasso" --images 200',
    "shiftreg classifier train --network resnet18 --weights resnet18.pth --force",
    "shiftreg classifier train ./images --out styles.safetensors",
)
def train(
    common: Writing,
    folder: Annotated[
        Path | None,
        typer.Argument(
            **FOLDER,
            help="Images, each in a subfolder named after its class; by default the base "
            "generates them.",
        ),
    ] = None,
    *,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Concepts to generate; all of the base by default. Comma-separated or repeated.",
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(min=2, metavar="N", help="Images to generate per class.")
    ] = 100,
    network: Annotated[
        Literal["small", "resnet18"],
        typer.Option(help="Trained from scratch, or on features from ImageNet."),
    ] = "small",
    weights: Annotated[
        Path | None,
        typer.Option(
            **FILE, help="torchvision's ResNet18 as .safetensors or .pth; its download by default."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Passes over the images.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", help="Peak of the schedule.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of images and training.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write; by default where other commands look for the base's classifier.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Train the classifier that recognises concepts in images of a base.

    It learns from 70% of the images of each class, and is measured on the rest. Without FOLDER,
    the base generates them: each concept with many prompts, and ordinary images as class "plain".
    """
    concepts = split_names(concept, "--concept") or ()
    workspace = common.workspace()
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
    common.show(result, render_trained(result))


@command(
    group,
    "shiftreg classifier test ./images",
    "shiftreg classifier test ./images --classifier styles.safetensors --json",
    name="test",
)
def examine(
    common: Common,
    folder: Annotated[
        Path,
        typer.Argument(**FOLDER, help="Images, each in a subfolder named after its class."),
    ],
    *,
    file: Annotated[
        Path | None,
        typer.Option("--classifier", **FILE, help="The classifier; the base's by default."),
    ] = None,
) -> None:
    """Test a classifier on images whose classes are known."""
    workspace = common.workspace()
    result = api.test_classifier(workspace, folder, file)
    common.show(result, render_tested(result))


@command(
    group,
    "shiftreg classifier imagenet --out objects.safetensors",
    "shiftreg classifier imagenet resnet50-11ad3fa6.pth --out objects.safetensors",
)
def imagenet(
    common: Common,
    weights: Annotated[
        Path | None,
        typer.Argument(
            **FILE | {"metavar": "WEIGHTS"},
            help="torchvision's ResNet50 as .safetensors or .pth; its download by default.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    force: ForceOption = False,
) -> None:
    """Make a classifier of ImageNet's thousand objects from torchvision's ResNet50.

    Its labels are torchvision's categories, such as "church" and "golf ball": name concepts so.
    """
    result = api.imagenet_classifier(weights, out, overwrite=force)
    labels = f"{len(result.labels)} ({', '.join(result.labels[:3])}, ...)"
    common.show(result, pairs(_written(result, "resnet50") | {"labels": labels}))


def render_trained(result: "ClassifierResult") -> RenderableType:
    """A classifier that was trained, and how well it does on what it did not learn from."""
    held_out = result.accuracy.count
    rows = _written(result, result.network) | {
        "images": f"{result.images} in {len(result.labels)} classes, {result.source}; "
        f"{held_out} held out",
        "accuracy": f"{_share(result.accuracy)} on the {held_out} held out",
    }
    return Group(render_accuracies(result.per_class, result.confusion), pairs(rows))


def render_tested(result: "ClassifierTest") -> RenderableType:
    """How well a classifier does on a folder of images."""
    rows = {
        "classifier": result.classifier,
        "digest": result.digest,
        "images": f"{result.images} in {len(result.counts)} classes, {result.folder}",
        "accuracy": _share(result.accuracy),
    }
    return Group(render_accuracies(result.per_class, result.confusion), pairs(rows))


def _written(result: "ClassifierResult | ImagenetClassifier", network: str) -> dict[str, object]:
    """A classifier's file."""
    return {
        "written": result.path,
        "network": f"{network}, {size(result.path)}",
        "digest": result.digest,
    }


def render_accuracies(
    per_class: Mapping[str, "Estimate"], confusion: "Confusion"
) -> RenderableType:
    """A row a class; and which class is taken for which, while a terminal has room for it."""
    rows = (
        (
            name,
            estimate.count,
            f"{estimate.value:.1%}",
            f"{estimate.low:.0%} to {estimate.high:.0%}",
            _mistake(name, confusion[name]),
        )
        for name, estimate in per_class.items()
    )
    columns = "Class", "Images", "Recognised", "Interval", "Mostly mistaken for"
    table = make_table(*columns, rows=rows)
    return (
        table
        if len(_answers(confusion)) > MOST_COLUMNS
        else Group(table, render_confusion(confusion))
    )


def render_confusion(confusion: "Confusion") -> RenderableType:
    """Classes by answers: how many images of each class were taken for what."""
    answers = _answers(confusion)
    rows = {
        name: [str(row.get(answer, ".")) for answer in answers] for name, row in confusion.items()
    }
    return make_matrix("Taken for", "Class", rows, "Answers", answers)


def _share(estimate: "Estimate") -> str:
    """A share of images with its interval: "98.3% (95% interval 95% to 100%)"."""
    return f"{estimate.value:.1%} (95% interval {estimate.low:.0%} to {estimate.high:.0%})"


def _answers(confusion: "Confusion") -> list[str]:
    """The classes, then whatever else was answered."""
    return list(dict.fromkeys([*confusion, *(a for row in confusion.values() for a in row)]))


def _mistake(name: str, row: Mapping[str, int]) -> str:
    wrong = {answer: count for answer, count in row.items() if answer != name}
    if not wrong:
        return ""
    answer = max(wrong, key=lambda it: wrong[it])
    return f"{answer} ({wrong[answer]})"
