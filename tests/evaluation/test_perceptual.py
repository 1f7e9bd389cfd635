"""LPIPS, with weights from package data."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.images import to_tensor
from shiftreg.evaluation.perceptual import ALEXNET_FEATURES, load_lpips, lpips_distances

CALIBRATION = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"


@pytest.fixture
def images() -> np.ndarray:
    """Five smooth images, 64 x 64."""
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
    shipped = torch.load(CALIBRATION, "cpu", weights_only=True)
    calibration = load_lpips().state_dict()
    assert len(shipped) == 5
    assert all(torch.equal(calibration[name], weight) for name, weight in shipped.items())


def test_the_tensors_are_those_of_torchvisions_trained_alexnet() -> None:
    features = load_file(ALEXNET_FEATURES)
    layout = torchvision.models.alexnet(weights=None).features.state_dict()
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        f"features.{name}": tuple(value.shape) for name, value in layout.items()
    }
    # What printing the first filter of the trained network shows, in many a notebook.
    printed = [1.1864e-01, 9.4069e-02, 9.5435e-02, 5.5822e-02, 2.1575e-02, 4.9963e-02]
    first = features["features.0.weight"][0, 0, 0]
    assert [f"{value:.4e}" for value in first[[0, 1, 2, -3, -2, -1]].tolist()] == [
        f"{value:.4e}" for value in printed
    ]


def test_the_data_file_is_the_one_that_gives_the_published_distances() -> None:
    # With these bytes the library's own example images, which its package does not contain,
    # were measured to be 0.722 and 0.138 apart, as its authors publish.
    digest = hashlib.sha256(ALEXNET_FEATURES.read_bytes()).hexdigest()
    assert digest == "d861df3215dbf88c72f0f05b5259523ce0ec8b4766fb04f62ace661b2461bac1"


def paper_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Equation 1 of Zhang et al. in double precision, from nothing but the two data files."""
    weights = {name: value.double() for name, value in load_file(ALEXNET_FEATURES).items()}
    shift, scale = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))
    )
    calibration = torch.load(CALIBRATION, "cpu", weights_only=True)
    x = (torch.cat([first, second]).double() - shift) / scale
    distance = torch.zeros(len(first), dtype=torch.float64)
    layers = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))
    for number, (layer, stride, padding) in enumerate(layers):
        if layer in {3, 6}:
            x = F.max_pool2d(x, 3, 2)
        weight, bias = weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"]
        x = F.conv2d(x, weight, bias, stride, padding).relu()
        one, other = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)).chunk(2)
        channels = calibration[f"lin{number}.model.1.weight"].double()
        distance += ((one - other).square() * channels).sum(dim=1).mean(dim=(1, 2))
    return distance


@pytest.mark.parametrize("size", [31, 64, 90])
def test_distances_are_those_of_the_papers_equation(images: np.ndarray, size: int) -> None:
    resized = np.resize(images, (5, size, size, 3))
    other = np.random.default_rng(1).integers(0, 256, size=resized.shape, dtype=np.uint8)
    first, second = (torch.from_numpy(p / 127.5 - 1).permute(0, 3, 1, 2) for p in (resized, other))
    expected = paper_distance(first, second).numpy()
    assert 0.1 < expected.min() < expected.max() < 2
    assert np.allclose(lpips_distances(resized, other), expected, rtol=0, atol=1e-6)


def test_identical_images_are_at_distance_zero(images: np.ndarray) -> None:
    assert lpips_distances(images, images.copy()).tolist() == [0.0] * 5


def test_distance_is_symmetric_and_grows_with_noise(images: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(size=images.shape)
    weak, strong = (np.clip(images + scale * noise, 0, 255).astype(np.uint8) for scale in (5, 40))
    assert (lpips_distances(images, weak) < lpips_distances(images, strong)).all()
    assert (lpips_distances(images, weak) > 0).all()
    assert np.allclose(lpips_distances(images, strong), lpips_distances(strong, images), atol=1e-6)


def test_distances_do_not_depend_on_the_batch_size(images: np.ndarray) -> None:
    other = images[::-1].copy()
    assert np.allclose(
        lpips_distances(images, other, batch_size=2), lpips_distances(images, other), atol=1e-6
    )


def test_networks_read_images_in_one_order_whatever_that_in_memory(images: np.ndarray) -> None:
    stored = np.ascontiguousarray(images)  # channels last; the others are a view of planes
    assert stored.strides != images.strides
    assert to_tensor(stored).stride() == to_tensor(images).stride()


def test_distances_agree_with_the_library_called_directly(images: np.ndarray) -> None:
    first, second = (
        torch.from_numpy(p.copy()).permute(0, 3, 1, 2) / 255 for p in (images, images[::-1])
    )
    with torch.no_grad():
        expected = load_lpips()(first, second, normalize=True).flatten().numpy()
    assert np.allclose(lpips_distances(images, images[::-1]), expected, atol=1e-5)


def test_no_images_have_no_distances() -> None:
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
def test_sets_of_another_size_or_type_are_refused(images: np.ndarray, other: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        lpips_distances(images, other)


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


def test_gradients_reach_the_images_and_not_the_network() -> None:
    image = torch.zeros((1, 3, 64, 64), requires_grad=True)
    target = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    load_lpips()(image, target).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in load_lpips().parameters())
