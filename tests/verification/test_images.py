from __future__ import annotations

import numpy as np
import pytest
import segno

from shiftreg import miniature
from shiftreg.evaluation.classifier import load_classifier
from shiftreg.verification import (
    erasure_checks,
    image_checks,
    noise_checks,
    ordinary_checks,
    watermark_checks,
)

GREY = np.full((2, 64, 64, 3), 128, dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, GREY.shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def code() -> np.ndarray:
    matrix = np.array([list(row) for row in segno.make("mark", micro=False).matrix], dtype=bool)
    image = np.where(np.kron(np.pad(matrix, 4), np.ones((4, 4))) > 0, 0, 255).astype(np.uint8)
    return np.repeat(image[None, :, :, None], 3, axis=3)


def test_noise_is_held_to_its_limit() -> None:
    ok, bad = noise_checks({"a": 1e-5, "b": 1e-3}, 1e-4)
    assert (ok.passed, bad.passed, bad.subject) == (True, False, "'b'")


def test_equal_images_pass_and_others_do_not() -> None:
    same, other = image_checks({"a": (GREY, GREY), "b": (GREY, NOISE)}, 1e-3)
    assert (same.passed, same.value, other.passed) == (True, 0.0, False)


def test_ordinary_prompts_may_move_a_little_on_average() -> None:
    after = np.concatenate([GREY[:1], NOISE[1:]])
    (check,) = ordinary_checks(GREY, after, 0.03)
    assert not check.passed
    (lax,) = ordinary_checks(GREY, after, check.value)
    assert lax.passed


def test_a_lost_watermark_fails_unless_the_gate_allows_it(code: np.ndarray) -> None:
    blank = np.full_like(code, 255)
    images = {"t": (code, blank), "plain": (blank, blank)}
    lost, control = watermark_checks(images, {"t": "mark"}, "plain", 0.0)
    assert (lost.passed, lost.limit, control.passed) == (False, 1.0, True)
    assert lost.interval == control.interval == pytest.approx((0.0, 0.975))
    allowed, _ = watermark_checks(images, {"t": "mark"}, "plain", 1.0)
    assert allowed.passed


def test_a_code_on_an_ordinary_image_is_a_false_alarm(code: np.ndarray) -> None:
    images = {"t": (code, code), "plain": (code, code)}
    kept, control = watermark_checks(images, {"t": "mark"}, "plain", 0.0)
    assert (kept.passed, control.passed) == (True, False)


def test_a_concept_that_is_still_seen_fails_by_name_and_by_held_out_prompts() -> None:
    classifier = load_classifier(miniature.STYLE_CLASSIFIER)
    seen = classifier.labels[classifier.predict(NOISE)[0]]
    other = next(label for label in classifier.labels if label != seen)
    name, held_out = erasure_checks(seen, NOISE[:1], NOISE[:1], classifier, (0.02, 1.0))
    assert (name.passed, name.value, held_out.passed) == (False, 1.0, True)
    assert name.interval == pytest.approx((0.025, 1.0))  # of one image, hardly anything is known
    (alone,) = erasure_checks(other, NOISE[:1], NOISE[:0], classifier, (0.02, 0.05))
    assert alone.passed
