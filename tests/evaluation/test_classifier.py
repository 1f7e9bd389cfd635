"""Classifiers: their answers, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from shiftreg import miniature
from shiftreg.errors import IntegrityError, InvalidInputError, NotFoundError, StorageError
from shiftreg.evaluation.classifier import (
    METADATA_KEY,
    Classifier,
    load_classifier,
    measure_accuracy,
    save_classifier,
)
from shiftreg.evaluation.intervals import rate
from shiftreg.evaluation.networks import ResNet, SmallNetwork, fold

LABELS = ("Van Gogh", "Picasso", "plain")


@pytest.fixture
def images() -> np.ndarray:
    """Seven images of noise."""
    return np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def classifier() -> Classifier:
    """An untrained small network with three labels."""
    torch.manual_seed(0)
    return Classifier(LABELS, fold(SmallNetwork(len(LABELS))))


@pytest.fixture
def large_classifier() -> Classifier:
    """An untrained ResNet18 with the same labels."""
    torch.manual_seed(0)
    return Classifier(LABELS, ResNet("resnet18", len(LABELS)).eval())


def test_probabilities_sum_to_one_and_agree_with_the_prediction(
    classifier: Classifier, images: np.ndarray
) -> None:
    probabilities = classifier.probabilities(images)
    assert probabilities.shape == (7, 3)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == classifier.predict(images)).all()


def test_no_images_have_no_label(classifier: Classifier, images: np.ndarray) -> None:
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


def test_a_saved_resnet_predicts_the_same(
    large_classifier: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "styles.safetensors"
    save_classifier(large_classifier, path)
    loaded = load_classifier(path)
    assert loaded.labels == LABELS
    assert loaded.network.architecture == "resnet18"
    expected = large_classifier.probabilities(images[:2])
    assert np.allclose(loaded.probabilities(images[:2]), expected, atol=2e-2)
    assert path.stat().st_size < 24e6  # half precision
    save_classifier(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_loading_leaves_the_callers_random_numbers_alone(
    classifier: Classifier, large_classifier: Classifier, tmp_path: Path
) -> None:
    for one in (classifier, large_classifier):
        save_classifier(one, tmp_path / "file")
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        load_classifier(tmp_path / "file")
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("path", [miniature.STYLE_CLASSIFIER, miniature.SUBJECT_CLASSIFIER])
def test_the_packaged_files_are_what_saving_writes(path: Path, tmp_path: Path) -> None:
    save_classifier(load_classifier(path), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_of_one_architecture_that_names_another_is_refused(
    classifier: Classifier, tmp_path: Path
) -> None:
    save_classifier(classifier, tmp_path / "small")
    with safe_open(tmp_path / "small", framework="pt") as file:
        header = file.metadata()[METADATA_KEY]
    state = classifier.network.state_dict()
    header = header.replace('"small"', '"resnet18"')
    save_file(state, tmp_path / "other", {METADATA_KEY: header})
    with pytest.raises(IntegrityError, match="not a classifier"):
        load_classifier(tmp_path / "other")


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
        {METADATA_KEY: '{"labels": ["a", "b", "c"]}'},
        {METADATA_KEY: '{"architecture": "large", "labels": ["a", "b", "c"]}'},
        {METADATA_KEY: '{"architecture": 18, "labels": ["a", "b", "c"]}'},
        {METADATA_KEY: '{"architecture": "small", "labels": ["a", "b"]}'},
        {METADATA_KEY: '{"architecture": "small", "labels": ["a", "a", "b"]}'},
        {METADATA_KEY: '{"architecture": "small", "labels": 3}'},
        {METADATA_KEY: '{"architecture": "small", "labels": "abc"}'},
        {METADATA_KEY: '{"architecture": "small", "labels": [1, 2, 3]}'},
    ],
)
def test_a_header_without_fitting_architecture_and_labels_is_refused(
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
    with pytest.raises(InvalidInputError, match="is a folder"):
        save_classifier(classifier, target)
    with pytest.raises(StorageError, match="no folder"):
        save_classifier(classifier, tmp_path / "nowhere" / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


ARTISTS = ("Picasso", "Caravaggio", "plain")


@pytest.fixture
def levels() -> np.ndarray:
    """Twelve levels, from dark to bright."""
    grey = np.linspace(0, 255, 12).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (12, 64, 64, 3)).copy()


@pytest.fixture
def untaught() -> Classifier:
    """A network that was taught nothing, and has opinions all the same."""
    torch.manual_seed(3)
    return Classifier(ARTISTS, fold(SmallNetwork(3)))


def test_every_answer_is_counted_once(untaught: Classifier, levels: np.ndarray) -> None:
    labels = ["Picasso"] * 4 + ["plain"] * 8
    answers = [ARTISTS[i] for i in untaught.predict(levels)]
    measured = measure_accuracy(untaught, levels, labels)
    hits = np.array([a == b for a, b in zip(answers, labels, strict=True)])
    assert measured.accuracy == rate(hits)
    assert list(measured.per_class) == ["Picasso", "plain"]
    assert measured.per_class["plain"] == rate(hits[4:])
    assert sum(measured.confusion["plain"].values()) == 8
    for answer, count in measured.confusion["Picasso"].items():
        assert answers[:4].count(answer) == count


def test_perfect_answers_lie_on_the_diagonal(untaught: Classifier, levels: np.ndarray) -> None:
    answers = [ARTISTS[i] for i in untaught.predict(levels)]
    measured = measure_accuracy(untaught, levels, answers)
    assert measured.accuracy.value == 1
    assert all(list(row) == [name] for name, row in measured.confusion.items())


def test_a_class_that_the_classifier_does_not_know_is_refused(
    untaught: Classifier, levels: np.ndarray
) -> None:
    with pytest.raises(NotFoundError, match=r"'Monet'.*Picasso, Caravaggio, plain"):
        measure_accuracy(untaught, levels, ["Monet"] * 12)


@pytest.mark.parametrize(("count", "labels"), [(0, []), (2, ["plain"])])
def test_images_without_a_label_each_are_refused(
    untaught: Classifier, levels: np.ndarray, count: int, labels: list[str]
) -> None:
    with pytest.raises(InvalidInputError, match="a label for each"):
        measure_accuracy(untaught, levels[:count], labels)
