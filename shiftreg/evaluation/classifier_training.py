"""Training a classifier on labelled images.

As the paper's classifiers of styles were made: 70% of the images to learn from and 30% to measure
on, a learning rate that goes up and down (Smith, 2017), and ResNet18 with features from ImageNet.
Where its weights cannot be had, a small network learns from scratch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.classifier import Accuracy, Classifier, measure_accuracy
from shiftreg.evaluation.images import check_images, to_tensor
from shiftreg.evaluation.networks import Network, ResNet, SmallNetwork, fit, fold
from shiftreg.evaluation.pretrained import pretrained_resnet18

Trainable = Literal["small", "resnet18"]
Observe = Callable[[str, int, int, Mapping[str, float]], None]
"""Notified of the stage, units done, units in all, and numbers worth showing."""

CYCLES = 2
LOWEST_SHARE = 0.02
"""Of the learning rate, where a cycle begins and ends."""
SHIFT = 4
HELD_OUT = 0.3
BATCH = 32
EPOCHS, FEWEST_STEPS = 20, 200
LEARNING_RATES: Mapping[Trainable, float] = {"small": 4e-3, "resnet18": 1e-2}


def train_classifier(
    images: np.ndarray,
    labels: Sequence[str],
    *,
    network: Trainable = "small",
    weights: Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    observe: Observe | None = None,
) -> tuple[Classifier, Accuracy]:
    """Trains a classifier on 70% of the images of each class, and measures it on the others.

    Args:
        images: uint8 array (N, H, W, 3).
        labels: The class of each image; two classes at least, and two images of each.
        network: "small", all of it trained; or "resnet18", of which the last layer is trained.
        weights: ResNet18's, a file, as :func:`pretrained_resnet18` takes it.
        epochs: Passes over the images; by default :func:`usual_epochs`.
        learning_rate: The highest; by default that of ``LEARNING_RATES``.
        seed: Of the split, the first weights and the order; the same gives the same classifier.

    Returns:
        The classifier, its labels in the order of their first images; and its accuracy on the
        images that it did not learn from.

    Raises:
        InvalidInputError: Too few classes or images, no epoch, a learning rate that is not
            positive or so high that the training diverged.
        NotFoundError: The weights do not exist, or cannot be downloaded.
        IntegrityError: The weights' file is damaged.
    """
    check_settings(network, weights, epochs, learning_rate)
    check_image_count(images, labels)
    observe = observe or _look_away
    rate = LEARNING_RATES[network] if learning_rate is None else learning_rate
    names = tuple(dict.fromkeys(labels))
    held_out = hold_out(labels, seed)
    learnt = images[~held_out]
    epochs = usual_epochs(len(learnt)) if epochs is None else epochs
    targets = torch.tensor([names.index(label) for label in labels])[torch.from_numpy(~held_out)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained: Network
        if network == "small":
            inputs = _shrunk(learnt)
            small = SmallNetwork(len(names))
            _train(small, inputs, targets, epochs, rate, augmented, observe)
            trained = fold(settle(small, inputs))
        else:
            trained = pretrained_resnet18(len(names), weights)
            features = _features(trained, learnt, observe)
            _train(trained.head, features, targets, epochs, rate, None, observe)
    classifier = Classifier(names, trained.eval())
    observe("testing the classifier", 0, 1, {})
    right = [label for label, held in zip(labels, held_out, strict=True) if held]
    measured = measure_accuracy(classifier, images[held_out], right)
    observe("testing the classifier", 1, 1, {"accuracy": measured.accuracy.value})
    return classifier, measured


def augmented(images: Tensor) -> Tensor:
    """Moves each image of a batch (N, 3, H, W) by up to four pixels, and mirrors half of them."""
    count, _, height, width = images.shape
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * SHIFT + 1, (count, 2)).tolist()
    moved = [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)]
    mirror = (torch.rand(count) < 0.5).tolist()
    return torch.stack([p.flip(-1) if m else p for p, m in zip(moved, mirror, strict=True)])


@torch.no_grad()
def settle(network: SmallNetwork, inputs: Tensor) -> SmallNetwork:
    """Averages a network's statistics again: in a short training they lag behind.

    Args:
        network: In training mode; it is changed, and returned.
        inputs: All that it was trained on, (N, 3, 64, 64) in [-1, 1].
    """
    for normalisation in network.normalisations:
        assert isinstance(normalisation, nn.BatchNorm2d)
        normalisation.reset_running_stats()
        normalisation.momentum = None
    # Each batch counts the same: they need equal sizes, and images of all classes.
    batches = math.ceil(len(inputs) / network.batch)
    for chosen in torch.randperm(len(inputs)).chunk(batches):
        network(inputs[chosen])
    return network


def _train(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    epochs: int,
    learning_rate: float,
    augment: Callable[[Tensor], Tensor] | None,
    observe: Observe,
) -> None:
    """Fits a module's logits to ``targets (n,)``; each class counts the same."""
    batches = math.ceil(len(inputs) / BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CyclicLR(
        optimizer,
        base_lr=LOWEST_SHARE * learning_rate,
        max_lr=learning_rate,
        step_size_up=max(1, epochs * batches // (2 * CYCLES)),
        mode="triangular",
        cycle_momentum=False,  # Adam has none that could be cycled
    )
    counts = targets.bincount()
    balance = len(targets) / (len(counts) * counts)
    module.train()
    for epoch in range(1, epochs + 1):
        loss = torch.zeros(())
        for chosen in torch.randperm(len(inputs)).chunk(batches):
            batch = inputs[chosen] if augment is None else augment(inputs[chosen])
            loss = F.cross_entropy(module(batch), targets[chosen], weight=balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not torch.isfinite(loss):
            raise InvalidInputError(
                f"The training diverged at a learning rate of {learning_rate:g}. Lower it."
            )
        observe("training the classifier", epoch, epochs, {"loss": loss.item()})


def _shrunk(images: np.ndarray) -> Tensor:
    """Images as the small network sees them: float (N, 3, 64, 64) in [-1, 1]."""
    size = SmallNetwork.batch
    starts = range(0, len(images), size)
    return torch.cat([fit(to_tensor(images[i : i + size]), SmallNetwork.side) for i in starts])


@torch.no_grad()
def _features(network: ResNet, images: np.ndarray, observe: Observe) -> Tensor:
    """What the last layer sees of each image (N, width), once for all epochs."""
    found = []
    for start in range(0, len(images), network.batch):
        observe("looking at the images", start, len(images), {})
        batch = to_tensor(images[start : start + network.batch])
        found.append(network.features(fit(batch, network.side)))
    observe("looking at the images", len(images), len(images), {})
    return torch.cat(found)


def _look_away(_stage: str, _done: int, _total: int, _values: Mapping[str, float]) -> None:
    """The observer of those who do not look."""


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
    """Refuses images, uint8 (N, H, W, 3), or classes of them that nothing can be learnt from.

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
    """Chooses 30% of each class at random, and at least one image: (N,) bool, True if held out."""
    rng = np.random.default_rng(seed)
    classes = np.array(labels)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in dict.fromkeys(labels):
        members = rng.permutation(np.flatnonzero(classes == label))
        held_out[members[: max(1, round(HELD_OUT * len(members)))]] = True
    return held_out
