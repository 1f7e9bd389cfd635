"""Checks on predictions and pictures: what must not change, and what must be gone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.watermark import decode_rate
from shiftreg.verification.checks import Check

NOISE_LIMIT = 1e-4
HALF_NOISE_LIMIT = 1e-3
LPIPS_LIMIT = 1e-3
NAME_ACCURACY_LIMIT = 0.02
WORDING_ACCURACY_LIMIT = 0.05

Pair = tuple[np.ndarray, np.ndarray]


def noise_checks(differences: Mapping[str, float], limit: float = NOISE_LIMIT) -> list[Check]:
    """Protected prompts keep their noise predictions.

    Args:
        differences: Prompt -> largest relative difference over timesteps.
        limit: What rounding alone explains, in the precision of the weights.
    """
    return [
        Check.at_most(
            "noise",
            _quoted(prompt),
            value,
            limit,
            f"Noise predictions differ from the base's by {value:.1e} of their size.",
        )
        for prompt, value in differences.items()
    ]


def image_checks(pictures: Mapping[str, Pair]) -> list[Check]:
    """Protected prompts keep their same-seed images.

    Args:
        pictures: Prompt -> base's and composition's images, both uint8 ``(n, H, W, 3)``.
    """
    checks = []
    for prompt, (before, after) in pictures.items():
        value = float(lpips_distances(before, after).max())
        explanation = f"Worst LPIPS of {len(before)} same-seed images against the base."
        checks.append(Check.at_most("images", _quoted(prompt), value, LPIPS_LIMIT, explanation))
    return checks


def watermark_checks(
    pictures: Mapping[str, Pair], payloads: Mapping[str, str], control: str
) -> list[Check]:
    """Each trigger's code decodes as often as on the base, and a control prompt's never.

    Args:
        pictures: Prompt -> images of base and composition.
        payloads: Trigger prompt -> payload; triggers without a payload are left to the images.
        control: An ordinary prompt, among the pictures.
    """
    checks = []
    for trigger, payload in payloads.items():
        if not payload:
            continue
        before, after = (decode_rate(images, payload) for images in pictures[trigger])
        explanation = f"Payload '{payload}' decodes in {after:.0%} of images; base: {before:.0%}."
        checks.append(Check.at_least("watermark", _quoted(trigger), after, before, explanation))
        false_alarms = decode_rate(pictures[control][1], payload)
        checks.append(
            Check.at_most(
                "watermark",
                f"{_quoted(control)} (control)",
                false_alarms,
                0.0,
                f"Payload '{payload}' decodes in {false_alarms:.0%} of ordinary images.",
            )
        )
    return checks


def erasure_checks(
    concept: str, by_name: np.ndarray, by_wording: np.ndarray, classifier: Classifier
) -> list[Check]:
    """The classifier no longer finds the concept.

    Args:
        concept: A label of the classifier.
        by_name: Images of the bare name.
        by_wording: Images of wordings that the erasure did not use.
        classifier: Of styles or objects.
    """
    label = classifier.labels.index(concept)
    checks = []
    for images, limit, where in (
        (by_name, NAME_ACCURACY_LIMIT, "its name"),
        (by_wording, WORDING_ACCURACY_LIMIT, "other wordings"),
    ):
        if len(images) == 0:
            continue
        share = float((classifier.predict(images) == label).mean())
        explanation = f"A classifier finds {concept} in {share:.0%} of {len(images)} images."
        checks.append(Check.at_most("erasure", f"{concept}, {where}", share, limit, explanation))
    return checks


def _quoted(prompt: str) -> str:
    return f"'{prompt}'"
