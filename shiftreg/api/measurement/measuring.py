"""Comparing folders of images, whoever made them, with every metric that is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from shiftreg.api.generation import manifest as generation_manifest
from shiftreg.api.generation.folder import METADATA
from shiftreg.api.measurement.folders import FILE, ImageFolder, in_words, open_images
from shiftreg.api.measurement.instruments import Instruments, choose_instruments
from shiftreg.api.measurement.metrics import FolderScores, Look, look, named_labels
from shiftreg.api.measurement.pairs import are_paired, other_makings, pair_distances
from shiftreg.api.selection import BASE_FOLDER
from shiftreg.api.values import Estimate, Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.frechet import FEATURES, frechet_distance
from shiftreg.evaluation.perceptual import SMALLEST_SIDE
from shiftreg.evaluation.prompt_file import PROMPT


@dataclass(frozen=True)
class FolderMeasurement:
    """How far the images of one folder are from those of another; None is what is left out.

    Attributes:
        reference: What the images show that others are compared with.
        other: What the compared ones show.
        paired: Whether both have the same file names, so that they are compared one by one.
        lpips: Perceptual distance of the pairs.
        style: Distance of the pairs' Gram matrices.
        frechet: Fréchet distance of both sets on AlexNet's features.
        fid: The same on Inception's.
        classifier: What says what the images show; "" if nothing.
        notes: Sentences about what is left out, or to be taken with care.
    """

    reference: FolderScores
    other: FolderScores
    paired: bool
    lpips: Estimate | None
    style: Estimate | None
    frechet: float | None
    fid: float | None
    classifier: str
    notes: tuple[str, ...]


def measure_folders(
    workspace: Workspace,
    folder: Path,
    others: Sequence[Path] = (),
    *,
    inception: Path | None = None,
    clip: Path | None = None,
    nudity: bool = False,
    classifier: Path | None = None,
    observe: Observer = ignore_progress,
) -> tuple[FolderMeasurement, ...]:
    """Compares folders of images with a reference.

    Images of the same file names are compared one by one, and sets of other names as sets. What
    was asked for and cannot be measured is an error; what is measured where it can be is left out
    with a note. Images are read in portions, and nothing is written.

    Args:
        workspace: Where the classifier is looked for of the base that generated the reference. No
            base is loaded.
        folder: The reference: a folder of images; or a whole painting, of which the base is
            compared with each composition.
        others: Folders to compare with it.
        inception: Weights for FID; see ``fid.find_inception_weights``.
        clip: Folder of a CLIP model, for how well images fit their prompts.
        nudity: Measure in how many images a body part is exposed.
        classifier: Says whether an image shows what its prompt names; by default the
            classifier of the base that generated the reference.
        observe: Told of the progress, in images.

    Returns:
        One a folder of ``others``, in that order.

    Raises:
        NotFoundError: No such folder or file.
        InvalidInputError: Nothing to compare with; no images, images of different sizes, too
            small ones, or ones without counterpart; no prompts where they are needed.
        IntegrityError: An image or a model is damaged.
        MissingExtraError: A metric that was asked for needs what is not installed.
        StorageError: An image cannot be read.
    """
    place, compared = _sides(folder, others)
    reference = _opened(place)
    rest = [_opened(path) for path in compared]
    paired = [are_paired(reference, other) for other in rest]
    rest = [
        # The same names show the same prompts, if the makers of the others noted none.
        replace(other, prompts=reference.prompts) if pairs and not other.prompts else other
        for other, pairs in zip(rest, paired, strict=True)
    ]
    instruments, notes = choose_instruments(
        workspace,
        reference,
        inception=inception,
        clip=clip,
        nudity=nudity,
        classifier=classifier,
    )
    for one in (reference, *rest):
        _check_prompts(one, instruments, asked_for_accuracy=classifier is not None)
    base = look(reference, instruments, observe)
    return tuple(
        _compare(reference, other, base, pairs, instruments, notes, observe)
        for other, pairs in zip(rest, paired, strict=True)
    )


def _sides(folder: Path, others: Sequence[Path]) -> tuple[Path, tuple[Path, ...]]:
    """The folder that others are compared with, and the others."""
    if others:
        return folder, tuple(others)
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder '{folder}'. Check the path.")
    if not (folder / generation_manifest.NAME).is_file():
        raise InvalidInputError(
            f"'{folder}' is compared with nothing. Name another folder, too, or give one that "
            "shiftreg generate made, with the base and its compositions in it."
        )
    generated = tuple(generation_manifest.read_manifest(folder)["folders"])
    compositions = tuple(folder / name for name in generated if name != BASE_FOLDER)
    if not compositions or BASE_FOLDER not in generated:
        raise InvalidInputError(
            f"A base is compared with compositions, and '{folder}' holds {', '.join(generated)}. "
            "Generate what is missing there with the same prompts, or name two folders."
        )
    return folder / BASE_FOLDER, compositions


def _opened(path: Path) -> ImageFolder:
    folder = open_images(path)
    if min(folder.size) < SMALLEST_SIDE:
        raise InvalidInputError(
            f"Images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels can be compared, and "
            f"those of '{path}' have {in_words(folder.size)}. Make larger ones."
        )
    return folder


def _check_prompts(
    folder: ImageFolder, instruments: Instruments, *, asked_for_accuracy: bool
) -> None:
    """Refuses images that cannot be measured as was asked for, before hours of work."""
    if not (instruments.clip or asked_for_accuracy):
        return
    if not any(name in folder.prompts for name in folder.names):
        raise InvalidInputError(
            f"CLIP score and accuracy need prompts, and '{folder.path}' has no {METADATA} that "
            f"says which: columns {FILE} and {PROMPT}. Add one, or leave --clip and --classifier "
            "out."
        )
    classifier = instruments.classifier
    if asked_for_accuracy and classifier and not named_labels(folder, classifier):
        raise InvalidInputError(
            f"No prompt of '{folder.path}' names exactly one of what {classifier.name} tells "
            f"apart: {', '.join(classifier.labels[:20])}. Give a classifier of what the prompts "
            "name, or leave --classifier out."
        )


def _compare(
    reference: ImageFolder,
    other: ImageFolder,
    base: Look,
    paired: bool,
    instruments: Instruments,
    notes: Sequence[str],
    observe: Observer,
) -> FolderMeasurement:
    seen = look(other, instruments, observe)
    lpips, style = pair_distances(reference, other, observe) if paired else (None, None)
    found = FolderMeasurement(
        reference=base.scores,
        other=seen.scores,
        paired=paired,
        lpips=lpips,
        style=style,
        frechet=_frechet(base.features, seen.features),
        fid=_frechet(base.inception, seen.inception),
        classifier=instruments.classifier.name if instruments.classifier else "",
        notes=(),
    )
    about_pair = _pair_notes(reference, other, found)
    folders = (*reference.notes, *base.notes, *other.notes, *seen.notes)
    return replace(found, notes=(*notes, *folders, *about_pair))


def _frechet(one: Tensor | None, other: Tensor | None) -> float | None:
    if one is None or other is None or min(len(one), len(other)) < 2:
        return None
    return frechet_distance(one, other)


def _pair_notes(reference: ImageFolder, other: ImageFolder, found: FolderMeasurement) -> list[str]:
    """What a reader of the distances should know."""
    notes = []
    if not found.paired:
        notes.append(
            f"LPIPS and style distance are left out: '{reference.path}' and '{other.path}' share "
            "no file name, so that nothing says which images belong together."
        )
    elif strangers := other_makings(reference, other):
        notes.append(
            f"{len(strangers)} of {len(other.names)} images of '{other.path}' have another "
            f"prompt or seed than their counterparts, such as '{strangers[0]}': their distances "
            "are no effect of the model alone."
        )
    fewest = min(len(reference.names), len(other.names))
    if fewest < 2:
        notes.append("Distances of sets are left out: they take two images in each folder.")
    if found.fid is not None and fewest <= FEATURES:
        notes.append(
            f"FID of {fewest} images is biased upwards: compare it only with that of as many. "
            f"It is dependable from more than {FEATURES} on."
        )
    return notes
