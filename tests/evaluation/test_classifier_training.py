"""Training classifiers: what is learnt, from what, and how it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchvision.models import resnet18

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.classifier_training import (
    CYCLES,
    LOWEST_SHARE,
    augmented,
    hold_out,
    settle,
    train_classifier,
    usual_epochs,
)
from shiftreg.evaluation.networks import ResNet, SmallNetwork

COLOURS = ("red", "green", "blue")


def coloured(count: int, side: int = 64) -> tuple[np.ndarray, list[str]]:
    """Noise with a tint that says the class."""
    rng = np.random.default_rng(count)
    classes = np.arange(count) % 3
    images = rng.integers(0, 120, (count, side, side, 3), dtype=np.uint8)
    images[np.arange(count), :, :, classes] += 100
    return images, [COLOURS[i] for i in classes]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of ResNet18's weights: random, which still tell colours apart."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18(weights=None).state_dict(), path)
    return path


def same(one: Classifier, other: Classifier) -> bool:
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_learning_rate_rises_and_falls_in_cycles() -> None:
    images, labels = coloured(30)
    rates: list[float] = []
    hook = register_optimizer_step_post_hook(
        lambda optimizer, _arguments, _options: rates.append(optimizer.param_groups[0]["lr"])
    )
    try:
        train_classifier(images, labels, epochs=8 * CYCLES, learning_rate=0.01)
    finally:
        hook.remove()
    # Up in four steps and down in four, from and to a small share of the highest.
    cycle = [LOWEST_SHARE + (1 - LOWEST_SHARE) * (4 - abs(4 - step)) / 4 for step in range(8)]
    assert rates == pytest.approx([0.01 * share for share in cycle * CYCLES])


def test_the_small_network_learns_to_tell_colours_apart() -> None:
    images, labels = coloured(90)
    classifier, accuracy = train_classifier(images, labels, epochs=25)
    assert classifier.labels == COLOURS
    assert isinstance(classifier.network, SmallNetwork)
    assert accuracy.accuracy.value > 0.9
    assert accuracy.accuracy.count == 27
    assert {name: estimate.count for name, estimate in accuracy.per_class.items()} == dict.fromkeys(
        COLOURS, 9
    )
    fresh, right = coloured(60)
    answers = [COLOURS[i] for i in classifier.predict(fresh)]
    assert np.mean([a == b for a, b in zip(answers, right, strict=True)]) > 0.9


def test_the_last_layer_of_resnet18_learns_and_its_features_stay(weights: Path) -> None:
    images, labels = coloured(30)
    classifier, accuracy = train_classifier(images, labels, network="resnet18", weights=weights)
    assert accuracy.accuracy.value > 0.9
    assert isinstance(classifier.network, ResNet)
    given = torch.load(weights, weights_only=True)
    assert torch.equal(classifier.network.body.conv1.weight, given["conv1.weight"])
    assert torch.equal(classifier.network.body.bn1.running_mean, given["bn1.running_mean"])


def test_a_seed_gives_one_classifier_and_another_seed_another() -> None:
    images, labels = coloured(24)
    torch.manual_seed(0)
    first, accuracy = train_classifier(images, labels, epochs=2, seed=1)
    torch.manual_seed(1)
    second, again = train_classifier(images, labels, epochs=2, seed=1)
    third, _ = train_classifier(images, labels, epochs=2, seed=2)
    assert same(first, second)
    assert accuracy == again
    assert not same(first, third)


def test_training_leaves_the_callers_random_numbers_alone() -> None:
    images, labels = coloured(12)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train_classifier(images, labels, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_what_is_held_out_is_not_learnt_from() -> None:
    images, labels = coloured(24)
    held_out = hold_out(labels, seed=0)
    others = images.copy()
    others[held_out] = 0
    assert same(*(train_classifier(i, labels, epochs=2)[0] for i in (images, others)))
    others[~held_out] = 0
    assert not same(*(train_classifier(i, labels, epochs=2)[0] for i in (images, others)))


def test_of_each_class_three_of_ten_are_held_out_and_always_one() -> None:
    labels = ["many"] * 100 + ["few"] * 10 + ["two"] * 2
    held_out = hold_out(labels, seed=0)
    assert (held_out[:100].sum(), held_out[100:110].sum(), held_out[110:].sum()) == (30, 3, 1)
    assert (hold_out(labels, seed=1) != held_out).any()


def test_where_images_say_nothing_a_rare_class_is_as_likely_as_the_others() -> None:
    grey = np.full((24, 64, 64, 3), 128, dtype=np.uint8)
    classifier, _ = train_classifier(grey, ["often"] * 20 + ["rarely"] * 4, epochs=40)
    assert classifier.probabilities(grey[:1])[0] == pytest.approx([0.5, 0.5], abs=0.1)


def test_normalisations_settle_on_all_images_whatever_their_order() -> None:
    torch.manual_seed(0)
    network = SmallNetwork(3)
    inputs = torch.cat([torch.full((260, 3, 64, 64), -1.0), torch.full((40, 3, 64, 64), 1.0)])
    settle(network, inputs)
    convolution, normalisation = network.convolutions[0], network.normalisations[0]
    with torch.no_grad():
        mean = torch.cat([convolution(batch) for batch in inputs.split(100)]).mean(dim=(0, 2, 3))
    assert torch.allclose(normalisation.running_mean, mean, atol=1e-5)


def test_large_images_are_shrunk_for_the_small_network() -> None:
    images, labels = coloured(24, side=96)
    classifier, _ = train_classifier(images, labels, epochs=1)
    assert classifier.probabilities(images[:2]).shape == (2, 3)


def test_progress_is_told_stage_by_stage(weights: Path) -> None:
    images, labels = coloured(12)
    told: list[tuple[Any, ...]] = []
    train_classifier(
        images,
        labels,
        network="resnet18",
        weights=weights,
        epochs=2,
        observe=lambda *progress: told.append(progress),
    )
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert stages == ["looking at the images", "training the classifier", "testing the classifier"]
    epochs = [(done, total) for stage, done, total, _ in told if stage.startswith("training")]
    assert epochs == [(1, 2), (2, 2)]
    assert told[-1][3].keys() == {"accuracy"}


def test_few_images_are_shown_more_often() -> None:
    assert usual_epochs(10_000) == 20
    assert usual_epochs(10) == 200


def test_augmenting_keeps_the_shape_and_nearly_all_of_the_image() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(8, 3, 64, 64)
    changed = augmented(ramp)
    assert changed.shape == ramp.shape
    rising = changed[:, 0, 0, -1] > changed[:, 0, 0, 0]
    assert 0 < rising.sum() < 8  # some are mirrored
    assert (changed[:, 0, 0].max(dim=1).values > 0.85).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "at least 1 epoch"),
        ({"learning_rate": 0.0}, "positive"),
        ({"learning_rate": float("nan")}, "positive"),
        ({"weights": Path("resnet18.pth")}, "from scratch"),
        ({"learning_rate": 1e30, "epochs": 3}, "diverged"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        train_classifier(*coloured(12), **settings)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "a", "a"], "two classes.*'a'"),
        (["a", "a", "b"], "two images.*'b'"),
        (["a", "b"], "needs a label"),
    ],
)
def test_images_that_teach_nothing_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        train_classifier(coloured(3)[0], labels)
