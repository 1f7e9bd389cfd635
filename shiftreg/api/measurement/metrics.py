"""The metrics that folders of images are measured with, and what one folder shows by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg.api.evaluation.classifiers import find_classifier
from shiftreg.api.generation.folder import MANIFEST, read_manifest
from shiftreg.api.measurement.folders import ImageFolder
from shiftreg.api.values import Estimate, Observer, Progress
from shiftreg.api.workspace import Workspace
from shiftreg.errors import MissingExtraError, NotFoundError
from shiftreg.evaluation import intervals, labels
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.clip import clip_scores
from shiftreg.evaluation.frechet import (
    WEIGHTS_NAME,
    WEIGHTS_VARIABLE,
    alexnet_features,
    find_inception_weights,
    load_inception,
)
from shiftreg.evaluation.nudity import THRESHOLD, exposed_parts


@dataclass(frozen=True)
class Metrics:
    """What is measured beside distances of AlexNet's features.

    Attributes:
        inception: FID's network; see ``frechet.load_inception``.
        clip: Model and processor; see ``pipelines.clip.load_clip``.
        nudity: Whether exposed body parts are counted.
        classifier: Says whether an image shows what its prompt names.
    """

    inception: Callable[[np.ndarray], Tensor] | None = None
    clip: tuple[Any, Any] | None = None
    nudity: bool = False
    classifier: Classifier | None = None


@dataclass(frozen=True)
class FolderScores:
    """What the images of one folder show by themselves; None is what was not measured.

    Attributes:
        clip: CLIP score, of the images whose prompts are known.
        nudity: Share of images in which a body part is exposed.
        accuracy: Share of images that are taken for the label that their prompt names, of those
            whose prompt names exactly one.
        per_label: The same of each label.
    """

    folder: Path
    images: int
    clip: Estimate | None
    nudity: Estimate | None
    accuracy: Estimate | None
    per_label: Mapping[str, Estimate]


@dataclass(frozen=True, eq=False)
class FolderFeatures:
    """Scores of a folder, and the features by which it is compared with others.

    Attributes:
        features: AlexNet's, ``(N, 256)`` float64.
        inception: Inception's, ``(N, 2048)`` float32, if it was loaded.
        notes: Sentences about images that were skipped.
    """

    scores: FolderScores
    features: Tensor
    inception: Tensor | None
    notes: tuple[str, ...]


def load_metrics(
    workspace: Workspace,
    reference: ImageFolder,
    *,
    inception: Path | None = None,
    clip: Path | None = None,
    nudity: bool = False,
    classifier: Path | None = None,
) -> tuple[Metrics, tuple[str, ...]]:
    """Loads what was asked for, and what is available; as in ``measure_folders``.

    Returns:
        The metrics, and a sentence for each that is skipped.

    Raises:
        NotFoundError: What was asked for does not exist.
        InvalidInputError: It is not a CLIP model.
        IntegrityError: It is damaged.
        MissingExtraError: It needs what is not installed.
    """
    from shiftreg.pipelines.clip import load_clip

    network, no_network = _inception(inception)
    if classifier is not None:
        reader, no_reader = find_classifier(workspace, classifier), ""
    else:
        reader, no_reader = _classifier_of_generator(workspace, reference)
    metrics = Metrics(network, None if clip is None else load_clip(clip), nudity, reader)
    return metrics, tuple(note for note in (no_network, no_reader) if note)


def measure_folder(folder: ImageFolder, metrics: Metrics, observe: Observer) -> FolderFeatures:
    """Reads every image of a folder, portion by portion.

    Raises:
        IntegrityError: An image is damaged.
        MissingExtraError: A metric needs what is not installed.
        StorageError: An image cannot be read.
    """
    classifier = metrics.classifier
    named = named_labels(folder, classifier) if classifier else {}
    features, inception, fits = [], [], [np.zeros(0)]
    exposed: list[bool] = []
    hits: dict[str, list[bool]] = {}
    for names in portions(folder, f"measuring {folder.path.name}", observe):
        images = folder.read(names)
        features.append(alexnet_features(images))
        if metrics.inception is not None:
            inception.append(metrics.inception(images))
        if metrics.clip is not None:
            some, prompts = _known(folder.prompts, names)
            fits.append(clip_scores(images[some], prompts, metrics.clip))
        if metrics.nudity:
            detected = exposed_parts(images)
            exposed += [any(score > THRESHOLD for score in parts.values()) for parts in detected]
        if classifier is not None:
            some, right = _known(named, names)
            answers = classifier.predict(images[some])
            for label, answer in zip(right, answers, strict=True):
                hits.setdefault(label, []).append(label == classifier.labels[answer])
    fit = np.concatenate(fits)
    scores = FolderScores(
        folder=folder.path,
        images=len(folder.names),
        clip=intervals.mean(fit) if len(fit) else None,
        nudity=_rate(exposed),
        accuracy=_rate([hit for of_label in hits.values() for hit in of_label]),
        per_label={name: intervals.rate(np.array(of_label)) for name, of_label in hits.items()},
    )
    notes = []
    if metrics.clip is not None and (blind := len(folder.names) - len(fit)):
        notes.append(f"{_of(blind, folder)} have no CLIP score: their prompts are not known.")
    if classifier is not None and (unread := len(folder.names) - len(named)):
        notes.append(
            f"{_of(unread, folder)} are not classified: their prompts name none of the labels of "
            f"{classifier.name}, or several."
        )
    pooled = torch.cat(inception) if inception else None
    return FolderFeatures(scores, torch.cat(features), pooled, tuple(notes))


def portions(folder: ImageFolder, stage: str, observe: Observer) -> Iterator[tuple[str, ...]]:
    """The names of a folder's images in portions that fit into memory, with progress in images."""
    done, total = 0, len(folder.names)
    observe(Progress(stage, done, total))
    for names in folder.batches():
        yield names
        done += len(names)
        observe(Progress(stage, done, total))


def named_labels(folder: ImageFolder, classifier: Classifier) -> dict[str, str]:
    """File name -> the label that the image's prompt names; see ``evaluation.labels``.

    Images without a prompt, or with one that names none or several, are excluded.
    """
    prompts = {name: folder.prompts[name] for name in folder.names if name in folder.prompts}
    of_prompt = labels.named_labels(list(prompts.values()), classifier.labels)
    return {name: of_prompt[prompt] for name, prompt in prompts.items() if prompt in of_prompt}


def _known(values: Mapping[str, str], names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Which of the names have a value, and their values."""
    some = [index for index, name in enumerate(names) if name in values]
    return some, [values[names[index]] for index in some]


def _rate(hits: Sequence[bool]) -> Estimate | None:
    return intervals.rate(np.array(hits)) if hits else None


def _of(count: int, folder: ImageFolder) -> str:
    return f"{count} of {len(folder.names)} images of '{folder.path}'"


def _inception(file: Path | None) -> tuple[Callable[[np.ndarray], Tensor] | None, str]:
    """FID's network, or why it is skipped."""
    weights = find_inception_weights(file)
    if weights is None:
        return None, (
            f"FID is skipped: no Inception weights found. Give torch-fidelity's {WEIGHTS_NAME} "
            f"with --inception or in {WEIGHTS_VARIABLE}."
        )
    try:
        return load_inception(weights), ""
    except MissingExtraError as error:
        if file is not None:
            raise
        return None, f"FID is skipped. {error}"


def _classifier_of_generator(
    workspace: Workspace, reference: ImageFolder
) -> tuple[Classifier | None, str]:
    """The classifier of the base that generated the images, or why none is used.

    A classifier knows the images of its base: it is not asked about those of others by default.
    """
    out = "Accuracy is skipped"
    if not reference.prompts:
        return None, f"{out}: nothing says which prompts '{reference.path}' was generated with."
    folder = reference.path.resolve().parent
    if not (folder / MANIFEST).is_file():
        return None, (
            f"{out}: '{reference.path}' is not of shiftreg generate, so that it is unknown which "
            "classifier knows its images. Give one with --classifier."
        )
    generator = read_manifest(folder)["base"]
    name, digest = generator["name"], generator["digest"]
    try:
        base = workspace.registry.bases.read(name)
    except NotFoundError:
        base = None
    if base is None or base.digest != digest:
        return None, (
            f"{out}: base '{name}' {digest[:12]}, which generated '{reference.path}', is not "
            "registered here. Give its classifier with --classifier."
        )
    settings = replace(workspace.settings, base=base.name)
    classifier = find_classifier(replace(workspace, settings=settings))
    if classifier is None:
        return None, (
            f"{out}: no classifier found for base '{name}'. "
            f"Run: shiftreg classifier train --base {name}"
        )
    return classifier, ""
