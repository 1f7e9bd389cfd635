"""A stored evaluation as a page shows it: read from JSON, numbers put in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shiftreg.checks import Check
from shiftreg.errors import IntegrityError
from shiftreg.reports.numbers import check_schema, distance, moment, number, share

_FIELDS = ("name", "method", "images", "seed", "classifier", "passed")


@dataclass(frozen=True)
class ScoreRow:
    """One concept after one step: its role, its numbers in words, and the published ones."""

    concept: str
    role: str
    frechet: str
    base_accuracy: str
    accuracy: str
    lpips: str
    style: str
    reference: str


@dataclass(frozen=True)
class ParaphraseRow:
    """One kind of a concept's paraphrases: how often the concept is found, on base and after."""

    concept: str
    role: str
    form: str
    prompts: tuple[str, ...]
    base: str
    after: str
    lpips: str


@dataclass(frozen=True)
class StepPart:
    """One step of a scene.

    Attributes:
        number: 1, 2, ...
        action: What was done, in words.
        digest: Of the composition that it led to.
        is_this: Whether that is the page's composition.
        scores: A row a concept.
        paraphrases: A row a concept and kind of paraphrases.
        ordinary: LPIPS on ordinary prompts.
        ordinary_frechet: Fréchet distance on ordinary prompts.
        watermark: Trigger -> how often its code is read.
        base_watermark: The same on the base.
    """

    number: int
    action: str
    digest: str
    is_this: bool
    scores: tuple[ScoreRow, ...]
    paraphrases: tuple[ParaphraseRow, ...]
    ordinary: str
    ordinary_frechet: str
    watermark: Mapping[str, str]
    base_watermark: Mapping[str, str]


@dataclass(frozen=True)
class EvaluationPart:
    """An evaluation; see ``evaluation.results.Evaluation``.

    Its ``has_reference`` says whether there are published numbers to show beside it.
    """

    name: str
    method: str
    images: int
    seed: int
    classifier: str
    created: str
    passed: bool
    steps: tuple[StepPart, ...]
    goals: tuple[Check, ...]
    has_reference: bool


def read_evaluation(document: Mapping[str, Any], digest: str) -> EvaluationPart:
    """Reads the JSON of an evaluation.

    Args:
        document: As ``evaluate`` stored it.
        digest: Of the composition that the page is about.

    Raises:
        IntegrityError: It is no evaluation of a known schema.
    """
    check_schema(document)
    try:
        reference = document["reference"]
        return EvaluationPart(
            **{field: document[field] for field in _FIELDS},
            created=moment(document["created"]),
            steps=tuple(
                _step(step, digest, reference.get(step["label"], {})) for step in document["steps"]
            ),
            goals=tuple(Check(**goal) for goal in document["goals"]),
            has_reference=bool(reference),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"it is no evaluation: {error}") from error


def _step(step: Mapping[str, Any], digest: str, reference: Mapping[str, str]) -> StepPart:
    return StepPart(
        **{name: step[name] for name in ("number", "action", "digest")},
        is_this=step["digest"] == digest,
        scores=tuple(
            ScoreRow(
                concept=score["concept"],
                role=score["role"],
                frechet=number(score["frechet"]),
                base_accuracy=share(score["base_accuracy"]),
                accuracy=share(score["accuracy"]),
                lpips=distance(score["lpips"]),
                style=distance(score["style"]),
                reference=reference.get(score["concept"], ""),
            )
            for score in step["scores"]
        ),
        paraphrases=tuple(
            ParaphraseRow(
                **{name: row[name] for name in ("concept", "role", "form")},
                prompts=tuple(row["prompts"]),
                base=share(row["base"]),
                after=share(row["after"]),
                lpips=distance(row["lpips"]),
            )
            for row in step["paraphrases"]
        ),
        ordinary=distance(step["ordinary"]),
        ordinary_frechet=number(step["ordinary_frechet"]),
        watermark={trigger: share(rate) for trigger, rate in step["watermark"].items()},
        base_watermark={t: share(rate) for t, rate in step["base_watermark"].items()},
    )
