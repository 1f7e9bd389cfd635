"""Checks of a composition: each takes measurements and returns report values."""

from shiftreg.verification.checks import Check
from shiftreg.verification.pictures import (
    HALF_NOISE_LIMIT,
    NOISE_LIMIT,
    erasure_checks,
    image_checks,
    noise_checks,
    watermark_checks,
)
from shiftreg.verification.separability import separability_checks, separability_row

__all__ = [
    "HALF_NOISE_LIMIT",
    "NOISE_LIMIT",
    "Check",
    "erasure_checks",
    "image_checks",
    "noise_checks",
    "separability_checks",
    "separability_row",
    "watermark_checks",
]
