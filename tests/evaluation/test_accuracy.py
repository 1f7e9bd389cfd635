"""Accuracy: a classifier's answers beside the right ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shiftreg.errors import InvalidInputError, NotFoundError
from shiftreg.evaluation.accuracy import measure_accuracy
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.intervals import rate
from shiftreg.evaluation.networks import SmallNetwork, fold

LABELS = ("Picasso", "Caravaggio", "plain")


@pytest.fixture
def images() -> np.ndarray:
    """Twelve images, from dark to bright."""
    levels = np.linspace(0, 255, 12).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (12, 64, 64, 3)).copy()


@pytest.fixture
def classifier() -> Classifier:
    """A network that was taught nothing, and has opinions all the same."""
    torch.manual_seed(3)
    return Classifier(LABELS, fold(SmallNetwork(3)))


def test_every_answer_is_counted_once(classifier: Classifier, images: np.ndarray) -> None:
    labels = ["Picasso"] * 4 + ["plain"] * 8
    answers = [LABELS[i] for i in classifier.predict(images)]
    measured = measure_accuracy(classifier, images, labels)
    hits = np.array([a == b for a, b in zip(answers, labels, strict=True)])
    assert measured.overall == rate(hits)
    assert list(measured.per_class) == ["Picasso", "plain"]
    assert measured.per_class["plain"] == rate(hits[4:])
    assert sum(measured.confusion["plain"].values()) == 8
    for answer, count in measured.confusion["Picasso"].items():
        assert answers[:4].count(answer) == count


def test_perfect_answers_lie_on_the_diagonal(classifier: Classifier, images: np.ndarray) -> None:
    answers = [LABELS[i] for i in classifier.predict(images)]
    measured = measure_accuracy(classifier, images, answers)
    assert measured.overall.value == 1
    assert all(list(row) == [name] for name, row in measured.confusion.items())


def test_a_class_that_the_classifier_does_not_know_is_refused(
    classifier: Classifier, images: np.ndarray
) -> None:
    with pytest.raises(NotFoundError, match=r"'Monet'.*Picasso, Caravaggio, plain"):
        measure_accuracy(classifier, images, ["Monet"] * 12)


@pytest.mark.parametrize(("count", "labels"), [(0, []), (2, ["plain"])])
def test_images_without_a_label_each_are_refused(
    classifier: Classifier, images: np.ndarray, count: int, labels: list[str]
) -> None:
    with pytest.raises(InvalidInputError, match="a label for each"):
        measure_accuracy(classifier, images[:count], labels)
