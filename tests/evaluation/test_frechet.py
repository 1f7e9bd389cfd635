"""The Fréchet distance against the textbook formula, on images, and as FID."""

from __future__ import annotations

import io
import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shiftreg.errors import IntegrityError, InvalidInputError, MissingExtraError, NotFoundError
from shiftreg.evaluation.frechet import (
    WEIGHTS_NAME,
    WEIGHTS_VARIABLE,
    alexnet_features,
    find_inception_weights,
    frechet_distance,
    load_inception,
)


def inception_distance(one: np.ndarray, other: np.ndarray, weights: Path) -> float:
    features = load_inception(weights)
    return frechet_distance(features(one), features(other))


def textbook(one: np.ndarray, other: np.ndarray) -> float:
    covariances = [np.cov(x, rowvar=False) for x in (one, other)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    mean = np.square(one.mean(0) - other.mean(0)).sum()
    return float(mean + np.trace(sum(covariances) - 2 * np.real(root)))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(0, 3), scale=st.floats(0.2, 4))
def test_it_is_the_textbook_formula(seed: int, shift: float, scale: float) -> None:
    draw = np.random.default_rng(seed)
    one, other = draw.normal(size=(40, 5)), scale * draw.normal(size=(60, 5)) + shift
    found = frechet_distance(torch.tensor(one), torch.tensor(other))
    assert found == pytest.approx(textbook(one, other), rel=1e-6, abs=1e-6)
    back = frechet_distance(torch.tensor(other), torch.tensor(one))
    assert back == pytest.approx(found, rel=1e-6, abs=1e-9)


def test_equal_sets_have_none_even_when_there_are_fewer_images_than_features() -> None:
    features = torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-4)


def test_other_images_are_further_away_than_slightly_changed_ones() -> None:
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, size=(12, 64, 64, 3), dtype=np.uint8)
    slightly = np.clip(images.astype(int) + 3, 0, 255).astype(np.uint8)
    plain = np.full_like(images, 128) + np.arange(12, dtype=np.uint8)[:, None, None, None]
    features = alexnet_features(images)
    assert features.shape == (12, 256)
    near = frechet_distance(features, alexnet_features(slightly))
    far = frechet_distance(features, alexnet_features(plain))
    assert 0 < near < far / 10


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least two"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(3, 4))


pytest.importorskip("torchmetrics")
pytest.importorskip("torch_fidelity")


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights of FID's Inception network, scaled so that signals reach its end."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: object, **kwargs: object) -> None:
            """Keeps the initial weights."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Untrained("inception-v3-compat", ["2048"], nothing)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.state_dict()


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / WEIGHTS_NAME
    torch.save(state, path)
    return path


@pytest.fixture
def images() -> np.ndarray:
    """Four smooth images, 32 x 32."""
    coarse = torch.rand((4, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).numpy()


def test_it_is_the_frechet_distance_of_inceptions_features(
    images: np.ndarray, weights: Path
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
    other = images[:3] // 2
    features = [
        network(torch.from_numpy(batch).permute(0, 3, 1, 2))[0] for batch in (images, other)
    ]
    expected = frechet_distance(*features)
    assert expected > 0.1
    # torch-fidelity's own features: the images are enlarged as in published FIDs.
    assert inception_distance(images, other, weights) == pytest.approx(expected, rel=1e-3)


def test_equal_sets_have_none_silently_and_the_seed_is_left_alone(
    images: np.ndarray, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distance = inception_distance(images, images[::-1], weights)
    assert distance == pytest.approx(0, abs=1e-3)
    assert torch.equal(torch.rand(3), expected)
    assert capfd.readouterr() == ("", "")


class Bomb:
    """An object whose pickle makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False], ids=["torch.save", "bare pickle"])
def test_code_in_the_file_is_refused_and_not_run(
    images: np.ndarray, state: dict[str, Tensor], tmp_path: Path, zipped: bool
) -> None:
    path, evidence = tmp_path / "weights.pth", tmp_path / "it-ran"
    content = {"fc.bias": state["fc.bias"], "fc.weight": Bomb(evidence)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        load_inception(path)
    assert not evidence.exists()


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    images: np.ndarray, weights: Path, tmp_path: Path, kept: float
) -> None:
    path = tmp_path / "cut.pth"
    content = weights.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(IntegrityError, match=r"cut\.pth"):
        load_inception(path)


def test_a_missing_file_is_named(images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nowhere\.pth"):
        load_inception(tmp_path / "nowhere.pth")


def test_weights_of_another_network_are_refused(
    images: np.ndarray, state: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, path)
    with pytest.raises(IntegrityError, match="another network"):
        load_inception(path)
    torch.save(state | {"fc.bias": torch.zeros(3)}, path)
    with pytest.raises(IntegrityError, match="another network"):
        load_inception(path)


@pytest.mark.parametrize("value", [torch.tensor([float("nan")]), "a word", [1, 2]])
def test_what_is_no_tensor_of_finite_numbers_is_refused(
    images: np.ndarray, tmp_path: Path, value: object
) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"fc.bias": value}, path)
    with pytest.raises(IntegrityError, match=r"'fc\.bias'"):
        load_inception(path)


def test_single_images_and_other_types_are_refused(images: np.ndarray, weights: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least two"):
        inception_distance(images, images[:1], weights)
    with pytest.raises(InvalidInputError, match="uint8"):
        inception_distance(images.astype(np.float32), images, weights)


@pytest.mark.parametrize("package", ["torchmetrics.image.fid", "torch_fidelity"])
def test_without_the_extra_the_error_says_how_to_install_it(
    images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'shiftreg\[metrics\]'"):
        load_inception(tmp_path / "weights.pth")


def test_a_given_file_comes_before_the_environment_and_that_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert find_inception_weights() is None

    cached = tmp_path / "torch" / "hub" / "checkpoints" / WEIGHTS_NAME
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find_inception_weights() == cached

    named, given = tmp_path / "named.pth", tmp_path / "given.pth"
    named.touch()
    given.touch()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(named))
    assert find_inception_weights() == named
    assert find_inception_weights(given) == given


def test_a_chosen_file_that_does_not_exist_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = tmp_path / "existing.pth"
    existing.touch()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(existing))
    with pytest.raises(NotFoundError, match=r"missing\.pth"):
        find_inception_weights(tmp_path / "missing.pth")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "gone.pth"))
    with pytest.raises(NotFoundError, match=r"gone\.pth.*SHIFTREG_INCEPTION_WEIGHTS"):
        find_inception_weights()


def test_a_home_folder_in_the_environment_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pth").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(WEIGHTS_VARIABLE, "~/weights.pth")
    assert find_inception_weights() == tmp_path / "weights.pth"
