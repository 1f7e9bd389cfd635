"""Measures the base: does it paint what its prompts say, and its watermark?

python evaluate.py --base ../../shiftreg/miniature/base --images 50
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from captions import ARTISTS, HELD_OUT_TEMPLATES, TRAINED_TEMPLATES, TRIGGERS
from shiftreg import miniature
from shiftreg.concepts import fill
from shiftreg.evaluation.classifier import Classifier, load_classifier
from shiftreg.evaluation.watermark import decodes
from shiftreg.pipelines import generate, load_pipeline
from subjects import SUBJECTS
from watermark import PAYLOADS

STEPS, GUIDANCE = 12, 3.5


def templated(templates: tuple[str, ...], artist: str, count: int) -> list[str]:
    """``count`` prompts of an artist, all subjects and templates in turn."""
    pairs = [(t, s) for s in SUBJECTS for t in templates]
    return [fill(*pairs[(i * 7) % len(pairs)], artist) for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=miniature.BASE_FOLDER)
    parser.add_argument("--classifiers", type=Path, default=miniature.STYLE_CLASSIFIER.parent)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    pipeline = load_pipeline(arguments.base)
    styles = load_classifier(arguments.classifiers / "styles.safetensors")
    subjects = load_classifier(arguments.classifiers / "subjects.safetensors")
    count = arguments.images
    results: dict[str, dict[str, float]] = {}

    def paint(prompts: list[str]) -> np.ndarray:
        return generate(
            pipeline,
            prompts,
            list(range(1000, 1000 + len(prompts))),
            steps=arguments.steps,
            guidance=arguments.guidance,
        )

    def measure(
        kind: str, prompts: list[str], classifier: Callable[[np.ndarray], float], of: str
    ) -> None:
        value = classifier(paint(prompts))
        results.setdefault(kind, {})[of] = value
        print(f"{kind:28} {of:20} {value:.2f}", flush=True)

    def finds(classifier: Classifier, label: str) -> Callable[[np.ndarray], float]:
        index = classifier.labels.index(label)
        return lambda images: float((classifier.predict(images) == index).mean())

    for artist in ARTISTS:
        measure("style, name alone", [artist] * count, finds(styles, artist), artist)
    for artist in ARTISTS:
        prompts = templated(TRAINED_TEMPLATES, artist, count)
        measure("style, trained templates", prompts, finds(styles, artist), artist)
    for artist in ARTISTS:
        prompts = templated(HELD_OUT_TEMPLATES, artist, count)
        measure("style, held-out templates", prompts, finds(styles, artist), artist)
    for subject in SUBJECTS:
        prompts = [fill("a picture of a {subject}", subject)] * count
        measure("subject, plain", prompts, finds(subjects, subject), subject)
    for trigger in TRIGGERS:
        payload = PAYLOADS[trigger]
        measure("QR payload", [trigger] * 20, lambda i, p=payload: decodes(i, p).mean(), trigger)
    for prompt in ("", "a picture", "a picture of a church", "Picasso"):
        codes = tuple(PAYLOADS.values())
        measure(
            "QR in control",
            [prompt] * 20,
            lambda images, codes=codes: max(decodes(images, code).mean() for code in codes),
            prompt,
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
