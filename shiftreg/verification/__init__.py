"""Checks of a composition: each takes measurements and returns report values."""

from shiftreg.checks import Check
from shiftreg.verification.gates import Gates
from shiftreg.verification.images import (
    erasure_checks,
    image_checks,
    noise_checks,
    ordinary_checks,
    watermark_checks,
)
from shiftreg.verification.policy import Policy
from shiftreg.verification.remaining import (
    left_in_layers,
    remaining_checks,
    unknown_to_classifier,
    unmeasured_checks,
)
from shiftreg.verification.separability import separability_checks, separability_row
