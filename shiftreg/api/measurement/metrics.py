"""What the images of one folder show by themselves, read portion by portion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shiftreg.api.measurement.folders import ImageFolder
from shiftreg.api.measurement.instruments import Instruments
from shiftreg.api.values import Estimate, Observer, Progress
from shiftreg.evaluation import intervals, labels
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.clip import clip_scores
from shiftreg.evaluation.frechet import alexnet_features
from shiftreg.evaluation.nudity import THRESHOLD, exposed_parts


@dataclass(frozen=True)
class FolderScores:
    """What the images of one folder show by themselves; None is what was not measured.

    Attributes:
        folder: Where they are.
        images: How many.
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
class Look:
    """What was seen in one folder.

    Attributes:
        scores: In numbers.
        features: AlexNet's, ``(N, 256)`` float64.
        inception: Inception's, ``(N, 2048)`` float32, if it was at hand.
        notes: Sentences about images that were passed over.
    """

    scores: FolderScores
    features: Tensor
    inception: Tensor | None
    notes: tuple[str, ...]


def look(folder: ImageFolder, instruments: Instruments, observe: Observer) -> Look:
    """Looks at every image of a folder.

    Args:
        folder: The images.
        instruments: What to look with.
        observe: Told of the progress, in images.

    Raises:
        IntegrityError: An image is damaged.
        MissingExtraError: An instrument needs what is not installed.
        StorageError: An image cannot be read.
    """
    classifier = instruments.classifier
    named = named_labels(folder, classifier) if classifier else {}
    features, inception, fits = [], [], [np.zeros(0)]
    exposed: list[bool] = []
    hits: dict[str, list[bool]] = {}
    for names in portions(folder, f"looking at {folder.path.name}", observe):
        images = folder.read(names)
        features.append(alexnet_features(images))
        if instruments.inception is not None:
            inception.append(instruments.inception(images))
        if instruments.clip is not None:
            some, prompts = _known(folder.prompts, names)
            fits.append(clip_scores(images[some], prompts, instruments.clip))
        if instruments.nudity:
            found = exposed_parts(images)
            exposed += [any(score > THRESHOLD for score in parts.values()) for parts in found]
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
    if instruments.clip is not None and (blind := len(folder.names) - len(fit)):
        notes.append(f"{_of(blind, folder)} have no CLIP score: their prompts are not known.")
    if classifier is not None and (unread := len(folder.names) - len(named)):
        notes.append(
            f"{_of(unread, folder)} are not classified: their prompts name none of the labels of "
            f"{classifier.name}, or several."
        )
    seen = torch.cat(inception) if inception else None
    return Look(scores, torch.cat(features), seen, tuple(notes))


def portions(folder: ImageFolder, stage: str, observe: Observer) -> Iterator[tuple[str, ...]]:
    """The names of a folder's images in portions that fit into memory, watched.

    Args:
        folder: The images.
        stage: What is done with them, in words.
        observe: Told of the progress, in images.
    """
    done, total = 0, len(folder.names)
    observe(Progress(stage, done, total))
    for names in folder.batches():
        yield names
        done += len(names)
        observe(Progress(stage, done, total))


def named_labels(folder: ImageFolder, classifier: Classifier) -> dict[str, str]:
    """File name -> the label that the image's prompt names; see ``evaluation.labels``.

    Images without a prompt, or with one that names none or several, are left out.
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
