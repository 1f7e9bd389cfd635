"""Style loss, against its formula and on textures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.perceptual import load_lpips, lpips_distances
from shiftreg.evaluation.style import style_distances


def blots(seed: int, scale: float, size: int = 96) -> np.ndarray:
    """One image of soft blots of a size, whose edges fit together."""
    rough = np.random.default_rng(seed).normal(size=(size, size, 3))
    soft = gaussian_filter(rough, (scale, scale, 0), mode="wrap")
    return np.clip(127 + 50 * soft / soft.std(), 0, 255).astype(np.uint8)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(5, 48, 40, 3), dtype=np.uint8)


def textbook(one: np.ndarray, other: np.ndarray) -> float:
    """Gatys et al.'s equations 3 to 5 with equal weights, for two images."""
    model = load_lpips()
    grams = []
    for image in (one, other):
        x = torch.from_numpy(image / 127.5 - 1).permute(2, 0, 1).float()[None]
        layers = [f[0].double().numpy() for f in model.net(model.scaling_layer(x))]
        grams.append([(np.einsum("ihw,jhw->ij", f, f), f.shape) for f in layers])
    total = 0.0
    for (gram, (channels, height, width)), (wanted, _) in zip(*grams, strict=True):
        total += np.square(gram - wanted).sum() / (4 * channels**2 * (height * width) ** 2) / 5
    return float(total)


def test_it_is_the_textbook_formula(noise: np.ndarray) -> None:
    other = noise[::-1] // 2
    expected = [textbook(x, y) for x, y in zip(noise, other, strict=True)]
    found = style_distances(noise, other)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-4)


def test_equal_images_have_none_and_order_does_not_matter(noise: np.ndarray) -> None:
    assert style_distances(noise, noise.copy()) == pytest.approx(np.zeros(5), abs=1e-9)
    there, back = style_distances(noise, noise // 3), style_distances(noise // 3, noise)
    assert (there > 0).all()
    assert there == pytest.approx(back)


def test_a_moved_texture_keeps_its_style_where_lpips_sees_another_image() -> None:
    here, other = blots(0, scale=1.5), blots(1, scale=4)
    moved = np.roll(here, (37, 22), axis=(0, 1))
    pairs = np.stack([here, here]), np.stack([moved, other])
    style, perceptual = style_distances(*pairs), lpips_distances(*pairs)
    assert style[0] < style[1] / 5
    assert perceptual[0] > perceptual[1] / 5


def test_images_of_another_size_can_be_compared() -> None:
    small, large = blots(0, scale=1.5)[None], blots(1, scale=1.5, size=128)[None]
    other = blots(2, scale=4, size=128)[None]
    assert style_distances(small, large)[0] < style_distances(small, other)[0] / 3


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_batch_size_does_not_matter(noise: np.ndarray, batch_size: int) -> None:
    other = noise // 2
    assert style_distances(noise, other, batch_size) == pytest.approx(
        style_distances(noise, other), rel=1e-4
    )


def test_no_images_have_no_distances(noise: np.ndarray) -> None:
    assert style_distances(noise[:0], noise[:0]).shape == (0,)


def test_sets_of_another_number_or_type_and_tiny_images_are_refused(noise: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="5 and 4"):
        style_distances(noise, noise[:4])
    with pytest.raises(InvalidInputError, match="uint8"):
        style_distances(noise, noise.astype(np.float32))
    with pytest.raises(InvalidInputError, match="31 x 31"):
        style_distances(noise[:, :30], noise)
