"""Checks on predictions and images: what must not change, and what must be gone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shiftreg.checks import Check
from shiftreg.evaluation import intervals
from shiftreg.evaluation.classifier import Classifier
from shiftreg.evaluation.perceptual import lpips_distances
from shiftreg.evaluation.watermark import decodes

Pair = tuple[np.ndarray, np.ndarray]


def noise_checks(differences: Mapping[str, float], limit: float) -> list[Check]:
    """Protected prompts keep their noise predictions.

    Args:
        differences: Prompt -> largest relative difference over timesteps.
        limit: The gate, which depends on the precision of the weights.
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


def image_checks(images: Mapping[str, Pair], limit: float) -> list[Check]:
    """Protected prompts keep their same-seed images.

    Args:
        images: Prompt -> base's and composition's images, both uint8 ``(n, H, W, 3)``.
        limit: The gate.
    """
    checks = []
    for prompt, (before, after) in images.items():
        value = float(lpips_distances(before, after).max())
        explanation = f"Worst LPIPS of {len(before)} same-seed images against the base."
        checks.append(Check.at_most("images", _quoted(prompt), value, limit, explanation))
    return checks


def ordinary_checks(before: np.ndarray, after: np.ndarray, limit: float) -> list[Check]:
    """Ordinary prompts, which nothing protects exactly, are hardly disturbed.

    Args:
        before: The base's images, uint8 ``(n, H, W, 3)``, one an ordinary prompt.
        after: The composition's, same seeds.
        limit: The gate.
    """
    value = intervals.mean(lpips_distances(before, after))
    explanation = f"Mean LPIPS of {len(before)} same-seed images against the base."
    return [Check.at_most("ordinary", "ordinary prompts", value, limit, explanation)]


def watermark_checks(
    images: Mapping[str, Pair], payloads: Mapping[str, str], control: str, limit: float
) -> list[Check]:
    """Each trigger's code decodes as often as on the base, and a control prompt's never.

    Args:
        images: Prompt -> images of base and composition.
        payloads: Trigger prompt -> payload; triggers without a payload are left to the images.
        control: An ordinary prompt, among the images.
        limit: The gate: how much of the base's rate may be lost.
    """
    checks = []
    for trigger, payload in payloads.items():
        if not payload:
            continue
        base, after = (intervals.rate(decodes(i, payload)) for i in images[trigger])
        explanation = (
            f"Payload '{payload}' decodes in {after.value:.0%} of images; base: {base.value:.0%}."
        )
        least = max(0.0, base.value - limit)
        checks.append(Check.at_least("watermark", _quoted(trigger), after, least, explanation))
        false_alarms = intervals.rate(decodes(images[control][1], payload))
        checks.append(
            Check.at_most(
                "watermark",
                f"{_quoted(control)} (control)",
                false_alarms,
                0.0,
                f"Payload '{payload}' decodes in {false_alarms.value:.0%} of ordinary images.",
            )
        )
    return checks


def erasure_checks(
    concept: str,
    by_name: np.ndarray,
    held_out: np.ndarray,
    classifier: Classifier,
    limits: tuple[float, float],
) -> list[Check]:
    """The classifier no longer finds the concept.

    Args:
        concept: A label of the classifier.
        by_name: Images of the bare name.
        held_out: Images of prompts that the erasure did not use.
        classifier: Of styles or objects.
        limits: The gates for both.
    """
    label = classifier.labels.index(concept)
    checks = []
    for images, limit, where in (
        (by_name, limits[0], "its name"),
        (held_out, limits[1], "held-out prompts"),
    ):
        if len(images) == 0:
            continue
        share = intervals.rate(classifier.predict(images) == label)
        explanation = f"A classifier finds {concept} in {share.value:.0%} of {share.count} images."
        checks.append(Check.at_most("erasure", f"{concept}, {where}", share, limit, explanation))
    return checks


def _quoted(prompt: str) -> str:
    return f"'{prompt}'"
