"""The form that images have here: uint8 arrays (N, H, W, 3), RGB."""

from __future__ import annotations

import numpy as np
import torch

from shiftreg.errors import InvalidInputError


def check_images(images: np.ndarray) -> None:
    """Refuses anything but a stack of RGB images, uint8 (N, H, W, 3).

    Raises:
        InvalidInputError: If the type or the shape is another one.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InvalidInputError(
            f"Images must be a uint8 array (N, H, W, 3), not {images.dtype} {images.shape}. "
            "Stack RGB images of one size with numpy.stack."
        )


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turns images, uint8 (N, H, W, 3), into what networks read: float32 (N, 3, H, W) in [-1, 1].

    Raises:
        InvalidInputError: As :func:`check_images`.
    """
    return channels_first(images).float() / 127.5 - 1


def channels_first(images: np.ndarray) -> torch.Tensor:
    """As :func:`to_tensor`, but uint8, as the images are."""
    check_images(images)
    # One order in memory: of another, convolutions compute other last bits.
    return torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2)
