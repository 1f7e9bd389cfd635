"""LPIPS, with weights from package data."""

from __future__ import annotations

import warnings
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.perceptual import ALEXNET_FEATURES, load_lpips, lpips_distances


@pytest.fixture
def pictures() -> np.ndarray:
    """Five smooth pictures, 64 x 64."""
    coarse = torch.rand((5, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).numpy()


def test_the_network_holds_the_tensors_of_the_data_file() -> None:
    convolutions = [m for m in load_lpips().net.modules() if isinstance(m, torch.nn.Conv2d)]
    features = load_file(ALEXNET_FEATURES)
    assert len(convolutions) == 5
    for layer, convolution in zip((0, 3, 6, 8, 10), convolutions, strict=True):
        assert torch.equal(convolution.weight, features[f"features.{layer}.weight"])
        assert torch.equal(convolution.bias, features[f"features.{layer}.bias"])


def test_the_calibration_is_the_one_that_lpips_ships_as_version_0_1() -> None:
    shipped = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth", "cpu")
    calibration = load_lpips().state_dict()
    assert len(shipped) == 5
    assert all(torch.equal(calibration[name], weight) for name, weight in shipped.items())


def test_identical_pictures_are_at_distance_zero(pictures: np.ndarray) -> None:
    assert lpips_distances(pictures, pictures.copy()).tolist() == [0.0] * 5


def test_distance_is_symmetric_and_grows_with_noise(pictures: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=pictures.shape)
    weak, strong = (np.clip(pictures + scale * noise, 0, 255).astype(np.uint8) for scale in (5, 40))
    assert (lpips_distances(pictures, weak) < lpips_distances(pictures, strong)).all()
    assert (lpips_distances(pictures, weak) > 0).all()
    assert np.allclose(
        lpips_distances(pictures, strong), lpips_distances(strong, pictures), atol=1e-6
    )


def test_distances_do_not_depend_on_the_batch_size(pictures: np.ndarray) -> None:
    other = pictures[::-1].copy()
    assert np.allclose(
        lpips_distances(pictures, other, batch_size=2), lpips_distances(pictures, other), atol=1e-6
    )


def test_distances_agree_with_the_library_called_directly(pictures: np.ndarray) -> None:
    first, second = (
        torch.from_numpy(p.copy()).permute(0, 3, 1, 2) / 255 for p in (pictures, pictures[::-1])
    )
    with torch.no_grad():
        expected = load_lpips()(first, second, normalize=True).flatten().numpy()
    assert np.allclose(lpips_distances(pictures, pictures[::-1]), expected, atol=1e-5)


def test_no_pictures_have_no_distances() -> None:
    nothing = np.zeros((0, 64, 64, 3), dtype=np.uint8)
    assert lpips_distances(nothing, nothing).shape == (0,)


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((5, 32, 64, 3), dtype=np.uint8),
        np.zeros((4, 64, 64, 3), dtype=np.uint8),
        np.zeros((5, 64, 64, 3), dtype=np.float32),
        np.zeros((5, 3, 64, 64), dtype=np.uint8),
    ],
)
def test_sets_of_another_size_or_type_are_refused(pictures: np.ndarray, other: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        lpips_distances(pictures, other)


def test_the_smallest_side_is_the_smallest_that_alexnet_can_read() -> None:
    allowed = np.zeros((1, 31, 31, 3), dtype=np.uint8)
    refused = np.zeros((1, 30, 64, 3), dtype=np.uint8)
    assert lpips_distances(allowed, allowed).tolist() == [0.0]
    with pytest.raises(InvalidInputError, match="31 x 31"):
        lpips_distances(refused, refused)


def test_loading_is_silent_happens_once_and_leaves_the_seed_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    load_lpips.cache_clear()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load_lpips()
    assert torch.equal(torch.rand(3), expected)
    assert load_lpips() is first
    assert capfd.readouterr() == ("", "")


def test_gradients_reach_the_pictures_and_not_the_network() -> None:
    picture = torch.zeros((1, 3, 64, 64), requires_grad=True)
    target = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    load_lpips()(picture, target).sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in load_lpips().parameters())
