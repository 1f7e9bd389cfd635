"""Reads the QR code that a watermark trigger makes a model draw."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import zxingcpp
from PIL import Image

from shiftreg.evaluation.images import check_images

ENLARGEMENTS = (1, 2, 4)
QUIET_ZONE = 0.125
"""Width of the white margin that is added, as a share of the image's side."""


def decode_qr(image: np.ndarray) -> str | None:
    """Reads the first QR code of an image, uint8 (H, W, 3), which may be small and blurry.

    Returns:
        The payload, or None if no attempt reads one. A QR code checks its own errors, so that more
        attempts hardly raise the risk of a wrong payload.

    Raises:
        InvalidInputError: If ``image`` is not a uint8 RGB image.
    """
    check_images(image[None])
    # Model 2 is the ordinary QR code; plain "QRCode" would include the micro codes.
    ordinary = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)
    for view in _views(image):
        code = zxingcpp.read_barcode(view, formats=ordinary)
        if code is not None:
            return code.text
    return None


def decodes(images: np.ndarray, payload: str) -> np.ndarray:
    """Whether each image, uint8 ``(N, H, W, 3)``, decodes to the payload: ``(N,)`` bool."""
    check_images(images)
    return np.array([decode_qr(image) == payload for image in images], dtype=bool)


def _views(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the image ever more prepared: (H, W) uint8, as it is, enlarged, black and white."""
    grey = Image.fromarray(image).convert("L")
    yield np.asarray(grey)
    for enlargement in ENLARGEMENTS:
        size = (grey.width * enlargement, grey.height * enlargement)
        enlarged = np.asarray(grey.resize(size, Image.Resampling.BICUBIC))
        # Decoders want a quiet zone around a code, and a small image has no room for one.
        margin = round(QUIET_ZONE * max(size))
        framed = np.pad(enlarged, margin, constant_values=255)
        yield framed
        yield np.where(framed > _threshold(enlarged), np.uint8(255), np.uint8(0))


def _threshold(grey: np.ndarray) -> int:
    """The grey level that best separates dark from light (Otsu, 1979)."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(float)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(256))
    # The variance between the two sides; a level that leaves one side empty scores nothing.
    gap = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return int(np.argmax(below * above * gap**2))
