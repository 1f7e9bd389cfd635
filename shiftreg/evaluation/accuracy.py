"""How often a classifier is right about images whose classes are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.intervals import Estimate, rate

MOST_NAMES = 20  # in a message: ImageNet has a thousand


@dataclass(frozen=True)
class Accuracy:
    """A classifier's answers beside the right ones.

    Attributes:
        overall: Share of all images that it is right about.
        per_class: The same of each class.
        confusion: Class -> what its images are taken for -> how many; answers that were never
            given are left out.
    """

    overall: Estimate
    per_class: Mapping[str, Estimate]
    confusion: Mapping[str, Mapping[str, int]]


def measure_accuracy(classifier: Classifier, images: np.ndarray, labels: Sequence[str]) -> Accuracy:
    """Compares a classifier's answers with the right ones.

    Args:
        classifier: Whom to ask.
        images: uint8 array (N, H, W, 3).
        labels: The right answer for each image.

    Raises:
        NotFoundError: The classifier does not know one of the labels.
        InvalidInputError: No images, or not one label an image.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise InvalidInputError(
            f"An accuracy takes at least one image and a label for each; got {len(images)} "
            f"images and {len(labels)} labels."
        )
    right = np.array(labels)
    classes = tuple(dict.fromkeys(labels))
    if unknown := [name for name in classes if name not in classifier.labels]:
        known = ", ".join(classifier.labels[:MOST_NAMES])
        more = ", ..." if len(classifier.labels) > MOST_NAMES else ""
        raise NotFoundError(
            f"The classifier does not know the class '{unknown[0]}'. It knows: {known}{more}."
        )
    answers = np.array(classifier.labels)[classifier.predict(images)]
    hits = answers == right
    return Accuracy(
        overall=rate(hits),
        per_class={name: rate(hits[right == name]) for name in classes},
        confusion={
            name: dict(Counter(answers[right == name].tolist()).most_common()) for name in classes
        },
    )
