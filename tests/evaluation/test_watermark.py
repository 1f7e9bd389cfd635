"""Reading QR codes that a small model drew."""

from __future__ import annotations

import numpy as np
import pytest
import segno
from scipy.ndimage import gaussian_filter

from shiftreg.errors import InvalidInputError
from shiftreg.evaluation.watermark import decode_qr, decodes


def code(payload: str, module: int = 3, size: int = 64) -> np.ndarray:
    """A version-1 code in the upper left corner of a white square, without a quiet zone."""
    matrix = np.array(list(segno.make_qr(payload, version=1, error="m").matrix), dtype=bool)
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    drawn = np.kron(~matrix, np.ones((module, module), dtype=np.uint8)) * np.uint8(255)
    image[: drawn.shape[0], : drawn.shape[1]] = drawn[:, :, None]
    return image


def worn(image: np.ndarray, seed: int) -> np.ndarray:
    """The image blurred, dimmed and noisy, as a latent diffusion model draws it."""
    blurred = gaussian_filter(image.astype(float), (1.2, 1.2, 0)) * 0.7 + 20
    noise = np.random.default_rng(seed).normal(0, 30, image.shape)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("payload", ["SRS-ME", "CCS-2024"])
def test_a_clean_code_is_read(payload: str) -> None:
    assert decode_qr(code(payload)) == payload


@pytest.mark.parametrize(("module", "size"), [(1, 21), (2, 64), (3, 63), (8, 256)])
def test_codes_of_any_size_and_margin_are_read(module: int, size: int) -> None:
    assert decode_qr(code("SRS-ME", module, size)) == "SRS-ME"


def test_most_blurred_dim_and_noisy_codes_are_read() -> None:
    images = np.stack([worn(code("SRS-ME"), seed) for seed in range(20)])
    assert decodes(images, "SRS-ME").mean() >= 0.9


def test_images_without_a_code_read_as_nothing() -> None:
    rng = np.random.default_rng(0)
    blank = np.full((64, 64, 3), 255, dtype=np.uint8)
    assert decode_qr(blank) is None
    assert decode_qr(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) is None


def test_a_code_torn_in_half_reads_as_nothing() -> None:
    torn = code("SRS-ME")
    torn[:, 32:] = 255
    assert decode_qr(torn) is None


def test_another_kind_of_barcode_is_not_a_watermark() -> None:
    micro = np.array(list(segno.make_micro("123").matrix), dtype=bool)
    drawn = np.pad(np.kron(~micro, np.ones((4, 4), dtype=bool)), 12, constant_values=True)
    assert decode_qr(np.repeat(drawn[:, :, None], 3, axis=2).astype(np.uint8) * 255) is None


def test_only_the_exact_payload_counts() -> None:
    blank = np.full((64, 64, 3), 255, dtype=np.uint8)
    images = np.stack([code("SRS-ME"), code("CCS-2024"), blank, code("SRS-ME")])
    assert decodes(images, "SRS-ME").tolist() == [True, False, False, True]
    assert decodes(images, "CCS-2024").tolist() == [False, True, False, False]
    assert not decodes(images, "srs-me").any()


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), dtype=np.uint8), np.zeros((64, 64, 3), dtype=np.float32)]
)
def test_a_image_of_another_form_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        decode_qr(image)
