"""The small classifier: its values, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError
from shiftreg.evaluation.classifier import (
    METADATA_KEY,
    Classifier,
    Network,
    fold,
    load_classifier,
    save_classifier,
)
from shiftreg.evaluation.images import to_tensor

LABELS = ("Van Gogh", "Picasso", "plain")


@pytest.fixture
def images() -> np.ndarray:
    """Seven pictures of noise."""
    return np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def network() -> Network:
    """An untrained network whose normalisations have seen some data."""
    torch.manual_seed(0)
    network = Network(len(LABELS)).train()
    for _ in range(3):
        network(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.fixture
def classifier(network: Network) -> Classifier:
    """The folded network with three labels."""
    return Classifier(LABELS, fold(network))


def test_folding_keeps_the_outputs(network: Network, images: np.ndarray) -> None:
    batch = to_tensor(images)
    with torch.no_grad():
        assert torch.allclose(network(batch), fold(network)(batch), atol=1e-5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fold(network).modules())


def test_folding_twice_is_refused(classifier: Classifier) -> None:
    with pytest.raises(InvalidInputError, match="only once"):
        fold(classifier.network)


def test_a_few_steps_learn_to_tell_colours_apart() -> None:
    torch.manual_seed(0)
    network = Network(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    rng = np.random.default_rng(1)

    def batch(count: int) -> tuple[np.ndarray, torch.Tensor]:
        classes = rng.integers(3, size=count)
        images = rng.integers(0, 120, (count, 64, 64, 3), dtype=np.uint8)
        images[np.arange(count), :, :, classes] += 100
        return images, torch.from_numpy(classes)

    for _ in range(25):
        images, classes = batch(16)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(to_tensor(images)), classes).backward()
        optimizer.step()
    for _ in range(20):  # the running statistics lag behind so short a training
        network(to_tensor(batch(16)[0]))

    classifier = Classifier(("red", "green", "blue"), fold(network))
    images, classes = batch(60)
    assert (classifier.predict(images) == classes.numpy()).mean() > 0.9
    assert classifier.accuracy(images[classes.numpy() == 2], "blue") > 0.8


def test_probabilities_sum_to_one_and_agree_with_the_prediction(
    classifier: Classifier, images: np.ndarray
) -> None:
    probabilities = classifier.probabilities(images)
    assert probabilities.shape == (7, 3)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == classifier.predict(images)).all()


def test_accuracies_of_all_labels_sum_to_one(classifier: Classifier, images: np.ndarray) -> None:
    shares = [classifier.accuracy(images, label) for label in LABELS]
    assert sum(shares) == pytest.approx(1)
    counts = np.bincount(classifier.predict(images), minlength=3)
    assert shares == pytest.approx(list(counts / 7))


def test_an_unknown_label_is_refused_with_the_known_ones(
    classifier: Classifier, images: np.ndarray
) -> None:
    with pytest.raises(NotFoundError, match=r"'Monet'.*Van Gogh, Picasso, plain"):
        classifier.accuracy(images, "Monet")


def test_an_accuracy_of_nothing_is_refused(classifier: Classifier, images: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        classifier.accuracy(images[:0], "plain")
    assert classifier.predict(images[:0]).shape == (0,)


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "a", "b")])
def test_labels_must_name_each_output_once(classifier: Classifier, labels: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="3 different labels"):
        Classifier(labels, classifier.network)


def test_a_saved_classifier_predicts_the_same(
    classifier: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "styles.safetensors"
    save_classifier(classifier, path)
    loaded = load_classifier(path)
    assert loaded.labels == LABELS
    assert np.allclose(loaded.probabilities(images), classifier.probabilities(images), atol=2e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["styles.safetensors"]


def test_saving_twice_writes_the_same_bytes_and_at_most_half_a_megabyte(
    classifier: Classifier, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        save_classifier(classifier, tmp_path / name)
    content = (tmp_path / "first").read_bytes()
    assert content == (tmp_path / "second").read_bytes()
    assert len(content) < 600_000


def test_a_saved_file_has_the_permissions_of_any_new_file(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path / "saved")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "saved").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_loaded_classifier_saves_to_the_same_bytes(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path / "first")
    save_classifier(load_classifier(tmp_path / "first"), tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.safetensors"):
        load_classifier(tmp_path / "nowhere.safetensors")


def test_a_cut_off_file_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_classifier(classifier, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match="damaged"):
        load_classifier(path)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all"])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        load_classifier(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"other": "x"},
        {METADATA_KEY: "not json"},
        {METADATA_KEY: "{}"},
        {METADATA_KEY: "[]"},
        {METADATA_KEY: '{"labels": ["a", "b"]}'},
        {METADATA_KEY: '{"labels": ["a", "a", "b"]}'},
        {METADATA_KEY: '{"labels": 3}'},
        {METADATA_KEY: '{"labels": "abc"}'},
        {METADATA_KEY: '{"labels": [1, 2, 3]}'},
    ],
)
def test_a_header_without_fitting_labels_is_refused(
    classifier: Classifier, metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    save_file(classifier.network.state_dict(), path, metadata)
    with pytest.raises(IntegrityError):
        load_classifier(path)


def test_weights_that_are_not_finite_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    with torch.no_grad():
        classifier.network.head.bias[0] = float("nan")
    save_classifier(classifier, path)
    with pytest.raises(IntegrityError, match="not finite"):
        load_classifier(path)


def test_a_failed_save_leaves_nothing_behind(classifier: Classifier, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        save_classifier(classifier, target)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
