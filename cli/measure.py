"""The command ``measure``: how far images in folders are from each other."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType

from shiftreg import api

from .options import Common, command
from .render import make_table, number, pairs, share, warnings

if TYPE_CHECKING:
    from shiftreg.api.measurement.measure import FolderMeasurement
    from shiftreg.api.values import Estimate


@command(
    "Measure",
    "shiftreg measure images",
    "shiftreg measure images/base images/active images/without-picasso",
    "shiftreg measure images --clip clip-vit-large-patch14",
    "shiftreg measure originals mine theirs --inception inception.pth --nudity",
)
def measure(
    common: Common,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Images to compare with, or a folder of shiftreg generate --csv."
        ),
    ],
    others: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="OTHER",
            help="Folders to compare; by default the compositions that shiftreg generated.",
        ),
    ] = None,
    *,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Inception's weights, for FID (or SHIFTREG_INCEPTION_WEIGHTS; torch hub's cache).",
        ),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A CLIP model, to score images by their prompts."),
    ] = None,
    nudity: Annotated[
        bool, typer.Option("--nudity", help="Measure in how many images a body part is exposed.")
    ] = False,
    classifier: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Classifier to tell whether an image shows what its prompt names; by default that "
            "of the base that generated FOLDER.",
        ),
    ] = None,
) -> None:
    """Compare folders of images with one of them, whatever made the images.

    LPIPS and style distance pair images by file name; the Fréchet distance on AlexNet's features
    needs no pairs. FID, CLIP score, nudity and accuracy are measured where what they need is
    there. Prompts are read from each folder's metadata.csv (file_name, prompt).
    """
    workspace = common.workspace()
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
    common.show(found, render_measurements(found))


def render_measurements(found: Sequence["FolderMeasurement"]) -> RenderableType:
    """All comparisons with one reference, and what all of them lack."""
    notes = dict.fromkeys(note for one in found for note in one.notes)
    classifier = next((one.classifier for one in found if one.classifier), "")
    facts = pairs({"classifier": classifier, "intervals": "95%, over images"})
    return Group(*map(_comparison, found), facts, *warnings(notes))


def _comparison(found: "FolderMeasurement") -> RenderableType:
    one, two = found.reference, found.other
    rows = [
        ("images", str(one.images), f"{two.images}{', paired' * found.paired}"),
        ("LPIPS", "", _cell(found.lpips, spread)),
        ("style distance", "", _cell(found.style, spread)),
        ("Fréchet distance, AlexNet", "", "" if found.frechet is None else number(found.frechet)),
        ("FID", "", "" if found.fid is None else number(found.fid)),
        ("CLIP score", _cell(one.clip, spread), _cell(two.clip, spread)),
        ("nudity", _cell(one.nudity, share), _cell(two.nudity, share)),
        ("shows what is asked for", _cell(one.accuracy, share), _cell(two.accuracy, share)),
        *(
            (f"  {label}", *(_cell(side.per_label.get(label), share) for side in (one, two)))
            for label in dict.fromkeys((*one.per_label, *two.per_label))
        ),
    ]
    return make_table(
        "", str(one.folder), str(two.folder), rows=(row for row in rows if any(row[1:]))
    )


def _cell(estimate: "Estimate | None", describe: Callable[["Estimate"], str]) -> str:
    return "" if estimate is None else describe(estimate)


def spread(estimate: "Estimate") -> str:
    """A value with its interval, "0.123 (0.101 to 0.142)"; a single image has none."""
    if estimate.count == 1:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"
