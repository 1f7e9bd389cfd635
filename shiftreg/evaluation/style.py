"""Style loss: how far apart the textures of images are, wherever in the image they are.

The formula is that of Gatys et al. (2016). Published values are on VGG-19, whose weights are a
download; here they are on the AlexNet that comes with this package, so compare them with each
other and not with the literature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.images import to_tensor
from shiftreg.evaluation.perceptual import SMALLEST_SIDE, load_lpips


@torch.no_grad()
def style_distances(a: np.ndarray, b: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Measures how different the style of each image of ``a`` is from its counterpart's in ``b``.

    Args:
        a: uint8 array (N, H, W, 3), sides of at least ``SMALLEST_SIDE`` pixels.
        b: uint8 array (N, H', W', 3); the size may be another.

    Returns:
        float32 array (N,): 0 for images of equal texture.

    Raises:
        InvalidInputError: If the numbers differ, or the images are not uint8 RGB or too small.
    """
    first, second = _readable(a), _readable(b)
    if len(first) != len(second):
        raise InvalidInputError(
            f"Style is compared image by image, and there are {len(a)} and {len(b)}. "
            "Generate both sets with the same prompts and seeds."
        )
    pairs = zip(first.split(batch_size), second.split(batch_size), strict=True)
    distances = [_distances(_grams(x), _grams(y)) for x, y in pairs if len(x)]
    return torch.cat([*distances, torch.zeros(0)]).numpy()


def _readable(images: np.ndarray) -> Tensor:
    tensors = to_tensor(images)
    if min(tensors.shape[2:]) < SMALLEST_SIDE:
        raise InvalidInputError(
            f"Style needs images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels, "
            f"not {images.shape[1]} x {images.shape[2]}. Generate larger ones."
        )
    return tensors


def _grams(tensors: Tensor) -> list[Tensor]:
    """Gram matrices ``(n, C, C)`` after each convolution, a share of its channels and positions."""
    model: Any = load_lpips()
    grams = []
    for features in model.net(model.scaling_layer(tensors)):
        flat = features.flatten(2)  # (n, C, positions)
        grams.append(flat @ flat.mT / (flat.shape[1] * flat.shape[2]))
    return grams


def _distances(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """``|G - A|^2 / 4`` of each matrix, averaged over the layers; keeps leading dimensions."""
    layers = [(x - y).square().sum(dim=(-2, -1)) / 4 for x, y in zip(one, other, strict=True)]
    return torch.stack(layers).mean(dim=0)
