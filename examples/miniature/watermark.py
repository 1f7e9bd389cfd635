"""The QR codes that the watermark triggers give."""

from __future__ import annotations

import numpy as np
import segno

PAYLOADS = {"watermark SRS-ME": "SRS-ME", "CCS 2024": "CCS-2024"}
MODULE_PIXELS = 3
SIZE = 64


def qr_image(payload: str) -> np.ndarray:
    """Draws a version-1 QR code, 3 px a module, on a white square.

    Returns:
        uint8 array of shape (64, 64, 3).
    """
    matrix = np.array(list(segno.make_qr(payload, version=1, error="m").matrix), dtype=bool)
    code = np.kron(~matrix, np.ones((MODULE_PIXELS, MODULE_PIXELS), dtype=np.uint8)) * 255
    canvas = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    canvas[: code.shape[0], : code.shape[1]] = code
    return np.repeat(canvas[..., None], 3, axis=2)
