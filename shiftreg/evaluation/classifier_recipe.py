"""How classifiers are trained: the settings, what they may be, and which images are held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.images import check_images

Trainable = Literal["small", "resnet18"]

HELD_OUT = 0.3
BATCH = 32
EPOCHS, FEWEST_STEPS = 20, 200
LEARNING_RATES: Mapping[Trainable, float] = {"small": 4e-3, "resnet18": 1e-2}


def usual_epochs(count: int) -> int:
    """Passes over ``count`` images: more of them where there are few images."""
    return max(EPOCHS, math.ceil(FEWEST_STEPS / math.ceil(count / BATCH)))


def check_settings(
    network: Trainable, weights: Path | None, epochs: int | None, learning_rate: float | None
) -> None:
    """Refuses settings that nothing can be trained with; None stands for the usual.

    Raises:
        InvalidInputError: No epoch, a learning rate that is not positive, or weights for the
            network that is trained from scratch.
    """
    if weights is not None and network != "resnet18":
        raise InvalidInputError(
            f"The {network} network begins from scratch, so weights do not go with it. "
            "Train resnet18, or leave them out."
        )
    if epochs is not None and epochs < 1:
        raise InvalidInputError(f"A training takes at least 1 epoch, and {epochs} were asked for.")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InvalidInputError(f"A learning rate is positive, and {learning_rate} is not.")


def check_image_count(images: np.ndarray, labels: Sequence[str]) -> None:
    """Refuses images that nothing can be learnt from.

    Args:
        images: uint8 array (N, H, W, 3).
        labels: The class of each image.

    Raises:
        InvalidInputError: They are no images, some have no label, or there are fewer than two
            classes, or fewer than two images of one.
    """
    check_images(images)
    if len(images) != len(labels):
        raise InvalidInputError(
            f"Each image needs a label, and {len(images)} images have {len(labels)}."
        )
    counts = Counter(labels)
    if len(counts) < 2:
        raise InvalidInputError(
            "A classifier tells at least two classes apart, and there is "
            f"{' and '.join(repr(label) for label in counts) or 'none'}. "
            "Add images of something else."
        )
    if few := [label for label, count in counts.items() if count < 2]:
        raise InvalidInputError(
            f"A class needs at least two images, to learn from and to measure on, and '{few[0]}' "
            "has one. Add some."
        )


def hold_out(labels: Sequence[str], seed: int) -> np.ndarray:
    """Chooses 30% of each class at random, and at least one image.

    Args:
        labels: The class of each image.
        seed: Of the choice.

    Returns:
        bool array (N,), True for the images that are held out.
    """
    rng = np.random.default_rng(seed)
    classes = np.array(labels)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in dict.fromkeys(labels):
        members = rng.permutation(np.flatnonzero(classes == label))
        held_out[members[: max(1, round(HELD_OUT * len(members)))]] = True
    return held_out
