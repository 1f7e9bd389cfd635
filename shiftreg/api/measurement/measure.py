"""Comparing folders of images, whoever made them, with every metric that is available."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from shiftreg.api.generation.folder import MANIFEST, METADATA, read_manifest
from shiftreg.api.measurement.folders import FILE, ImageFolder, describe_size, open_images
from shiftreg.api.measurement.metrics import (
    FolderFeatures,
    FolderScores,
    Metrics,
    load_metrics,
    measure_folder,
    named_labels,
    portions,
)
from shiftreg.api.selection import BASE_FOLDER
from shiftreg.api.values import Estimate, Observer, ignore_progress
from shiftreg.api.workspace import Workspace
from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation import intervals
from shiftreg.evaluation.frechet import FEATURES, frechet_distance
from shiftreg.evaluation.perceptual import SMALLEST_SIDE, lpips_distances
from shiftreg.evaluation.prompt_file import PROMPT
from shiftreg.evaluation.style import style_distances


@dataclass(frozen=True)
class FolderMeasurement:
    """How far the images of one folder are from those of another; None is what was not measured.

    Attributes:
        reference: What the images show that others are compared with.
        other: What the compared ones show.
        paired: Whether both have the same file names, so that they are compared one by one.
        lpips: Perceptual distance of the pairs.
        style: Distance of the pairs' Gram matrices.
        frechet: Fréchet distance of both sets on AlexNet's features.
        fid: The same on Inception's.
        classifier: Name of the classifier that read the images; "" if none did.
        notes: Sentences about what was skipped, or to be taken with care.
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
    was asked for and cannot be measured is an error; what is measured where it can be is
    skipped with a note. Images are read in portions, and nothing is written.

    Args:
        workspace: Whose registry knows the classifier of the base that generated the reference. No
            base is loaded.
        folder: The reference: a folder of images; or what shiftreg generate wrote, whose base is
            compared with each composition.
        others: Folders to compare with it.
        inception: Weights for FID; see ``frechet.find_inception_weights``.
        clip: Folder of a CLIP model, for how well images fit their prompts.
        nudity: Measure in how many images a body part is exposed.
        classifier: Says whether an image shows what its prompt names; by default the
            classifier of the base that generated the reference.
        observe: Notified of the progress, in images.

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
    base_folder, compared = _sides(folder, others)
    reference = _opened(base_folder)
    rest = [_opened(path) for path in compared]
    paired = [are_paired(reference, other) for other in rest]
    rest = [
        # The same names show the same prompts, if the makers of the others noted none.
        replace(other, prompts=reference.prompts) if pairs and not other.prompts else other
        for other, pairs in zip(rest, paired, strict=True)
    ]
    metrics, notes = load_metrics(
        workspace, reference, inception=inception, clip=clip, nudity=nudity, classifier=classifier
    )
    for one in (reference, *rest):
        _check_prompts(one, metrics, asked_for_accuracy=classifier is not None)
    base = measure_folder(reference, metrics, observe)
    return tuple(
        _compare(reference, other, base, pairs, metrics, notes, observe)
        for other, pairs in zip(rest, paired, strict=True)
    )


def _sides(folder: Path, others: Sequence[Path]) -> tuple[Path, tuple[Path, ...]]:
    """The folder that others are compared with, and the others."""
    if others:
        return folder, tuple(others)
    if not folder.is_dir():
        raise NotFoundError(f"No folder '{folder}'. Check the path.")
    if not (folder / MANIFEST).is_file():
        raise InvalidInputError(
            f"'{folder}' is compared with nothing. Name another folder, too, or give one "
            "that shiftreg generate wrote, with the base and its compositions in it."
        )
    generated = tuple(read_manifest(folder)["folders"])
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
            f"those of '{path}' have {describe_size(folder.size)}. Make larger ones."
        )
    return folder


def _check_prompts(folder: ImageFolder, metrics: Metrics, *, asked_for_accuracy: bool) -> None:
    """Refuses images that cannot be measured as was asked for, before hours of work."""
    if not (metrics.clip or asked_for_accuracy):
        return
    if not any(name in folder.prompts for name in folder.names):
        raise InvalidInputError(
            f"CLIP score and accuracy need prompts, and '{folder.path}' has no {METADATA} that "
            f"says which: columns {FILE} and {PROMPT}. Add one, or leave --clip and --classifier "
            "out."
        )
    classifier = metrics.classifier
    if asked_for_accuracy and classifier and not named_labels(folder, classifier):
        raise InvalidInputError(
            f"No prompt of '{folder.path}' names exactly one of what {classifier.name} tells "
            f"apart: {', '.join(classifier.labels[:20])}. Give a classifier of what the prompts "
            "name, or leave --classifier out."
        )


def _compare(
    reference: ImageFolder,
    other: ImageFolder,
    base: FolderFeatures,
    paired: bool,
    metrics: Metrics,
    notes: Sequence[str],
    observe: Observer,
) -> FolderMeasurement:
    seen = measure_folder(other, metrics, observe)
    lpips, style = pair_distances(reference, other, observe) if paired else (None, None)
    result = FolderMeasurement(
        reference=base.scores,
        other=seen.scores,
        paired=paired,
        lpips=lpips,
        style=style,
        frechet=_frechet(base.features, seen.features),
        fid=_frechet(base.inception, seen.inception),
        classifier=metrics.classifier.name if metrics.classifier else "",
        notes=(*notes, *reference.notes, *base.notes, *other.notes, *seen.notes),
    )
    return replace(result, notes=(*result.notes, *_pair_notes(reference, other, result)))


def _frechet(one: Tensor | None, other: Tensor | None) -> float | None:
    if one is None or other is None or min(len(one), len(other)) < 2:
        return None
    return frechet_distance(one, other)


def _pair_notes(reference: ImageFolder, other: ImageFolder, result: FolderMeasurement) -> list[str]:
    """What a reader of the distances should know."""
    notes = []
    if not result.paired:
        notes.append(
            f"LPIPS and style distance are skipped: '{reference.path}' and '{other.path}' share "
            "no file name, so that nothing says which images belong together."
        )
    elif strangers := made_differently(reference, other):
        notes.append(
            f"{len(strangers)} of {len(other.names)} images of '{other.path}' have another "
            f"prompt or seed than their counterparts, such as '{strangers[0]}': their distances "
            "are not an effect of the model alone."
        )
    fewest = min(len(reference.names), len(other.names))
    if fewest < 2:
        notes.append("Distances of sets are skipped: they take two images in each folder.")
    if result.fid is not None and fewest <= FEATURES:
        notes.append(
            f"FID of {fewest} images is biased upwards: compare it only with that of as many. "
            f"It is dependable with more than {FEATURES}."
        )
    return notes


def are_paired(reference: ImageFolder, other: ImageFolder) -> bool:
    """Whether both have the same names; not those that share none.

    Raises:
        InvalidInputError: Only some names are the same, or the sizes are not.
    """
    if not set(reference.names) & set(other.names):
        return False
    for here, there in ((reference, other), (other, reference)):
        present = set(there.names)
        if alone := [name for name in here.names if name not in present]:
            raise InvalidInputError(
                f"{len(alone)} of {len(here.names)} images of '{here.path}' have no counterpart "
                f"of the same name in '{there.path}', the first of them '{alone[0]}'. Make those "
                "(shiftreg generate continues where it stopped), or move the surplus elsewhere."
            )
    if reference.size != other.size:
        raise InvalidInputError(
            f"Images that are compared have one size: those of '{reference.path}' have "
            f"{describe_size(reference.size)} pixels, and those of '{other.path}' "
            f"{describe_size(other.size)}. Resize them first."
        )
    return True


def pair_distances(
    reference: ImageFolder, other: ImageFolder, observe: Observer
) -> tuple[Estimate, Estimate]:
    """LPIPS and style distance, image by image; both are read portion by portion.

    Raises:
        IntegrityError: An image is damaged.
        StorageError: It cannot be read.
    """
    lpips, style = [], []
    for names in portions(reference, f"comparing with {other.path.name}", observe):
        one, two = reference.read(names), other.read(names)
        lpips.append(lpips_distances(one, two))
        style.append(style_distances(one, two))
    return intervals.mean(np.concatenate(lpips)), intervals.mean(np.concatenate(style))


def made_differently(reference: ImageFolder, other: ImageFolder) -> list[str]:
    """The names that stand for another prompt or seed in each folder, where both say which."""
    known = ((reference.prompts, other.prompts), (reference.seeds, other.seeds))
    return [
        name
        for name in reference.names
        if any(name in one and name in two and one[name] != two[name] for one, two in known)
    ]
