"""LPIPS, the perceptual distance of Zhang et al. (2018), without any download.

The calibrated linear layers come with the ``lpips`` package; the AlexNet features that it would
fetch are a data file of this one.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.images import to_tensor

ALEXNET_FEATURES = Path(__file__).parent / "weights" / "alexnet_features.safetensors"
SMALLEST_SIDE = 31
"""Smaller images leave nothing after AlexNet's second pooling."""

# lpips cuts AlexNet after each activation, and keeps the numbers of the layers.
_SLICES = {"0": "slice1", "3": "slice2", "6": "slice3", "8": "slice4", "10": "slice5"}


@functools.cache
def load_lpips() -> torch.nn.Module:
    """Loads LPIPS (AlexNet, version 0.1) once a process.

    Returns:
        A frozen module in evaluation mode. It takes two float tensors (N, 3, H, W) in [-1, 1] and
        gives their distances (N, 1, 1, 1); gradients flow to its inputs.
    """
    import lpips  # type: ignore[import-untyped]  # it has no type hints; it imports torchvision

    features = {}
    for key, value in load_file(ALEXNET_FEATURES).items():
        _, layer, parameter = key.split(".")
        features[f"{_SLICES[layer]}.{layer}.{parameter}"] = value
    # Building initialises random weights first, which must not shift a caller's seed.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    model.net.load_state_dict(features)
    frozen: torch.nn.Module = model.requires_grad_(False).eval()
    return frozen


@torch.no_grad()
def lpips_distances(a: np.ndarray, b: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Measures how different each image of ``a`` looks from its counterpart in ``b``.

    Args:
        a: uint8 array (N, H, W, 3), sides of at least ``SMALLEST_SIDE`` pixels.
        b: uint8 array of the same shape.

    Returns:
        float32 array (N,): 0 for identical images, about 0.7 for unrelated ones.

    Raises:
        InvalidInputError: If the shapes differ, or the images are not uint8 RGB or too small.
    """
    first, second = to_tensor(a), to_tensor(b)
    if first.shape != second.shape:
        raise InvalidInputError(
            f"LPIPS compares images of equal number and size, not {a.shape} with {b.shape}. "
            "Generate both sets with the same prompts and the same size."
        )
    if min(first.shape[2:]) < SMALLEST_SIDE:
        raise InvalidInputError(
            f"LPIPS needs images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels, "
            f"not {a.shape[1]} x {a.shape[2]}. Generate larger ones."
        )
    model = load_lpips()
    pairs = zip(torch.split(first, batch_size), torch.split(second, batch_size), strict=True)
    distances = torch.cat(
        [model(x, y)[:, 0, 0, 0] if len(x) else torch.zeros(0) for x, y in pairs]
    ).numpy()
    # Convolutions round by where memory lies, which would leave 1e-13 between equal images.
    distances[(a == b).all(axis=(1, 2, 3))] = 0
    return distances
