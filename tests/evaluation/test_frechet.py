"""The Fréchet distance against the textbook formula, and on images."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.frechet import alexnet_features, frechet_distance


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
