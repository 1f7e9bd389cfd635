"""Results of an evaluation: plain data, as it is stored and shown, and its goals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shiftreg.checks import Check
from shiftreg.evaluation.intervals import Estimate

Role = Literal["forgotten", "recovered", "regular"]
Cell = tuple[str, str, float | Estimate]  # goal, where, value


@dataclass(frozen=True)
class ConceptScore:
    """One concept after one step, by images of its bare name.

    Attributes:
        role: "forgotten" (erased now), "recovered" (erased before, generates again) or "regular".
        frechet: Fréchet distance of AlexNet features between base and composition.
        accuracy: Share of images that the classifier takes for the concept.
        base_accuracy: The same on the base.
        lpips: Distance between base and composition, same seeds.
        style: Distance of Gram matrices between base and composition, same seeds.
    """

    concept: str
    role: Role
    frechet: float
    accuracy: Estimate
    base_accuracy: Estimate
    lpips: Estimate
    style: Estimate


@dataclass(frozen=True)
class ParaphraseScore:
    """One concept in one kind of paraphrases.

    Attributes:
        role: As in ``ConceptScore``.
        form: "name", "held-out prompts", "aliases", "misspellings", "other spellings", or the
            control "neighbours": names near it, of which each is looked for in its own images.
        base: Share of images in which the concept is found, on the base.
        after: The same on the composition.
        lpips: Distance between both.
    """

    concept: str
    role: Role
    form: str
    prompts: tuple[str, ...]
    base: Estimate
    after: Estimate
    lpips: Estimate


@dataclass(frozen=True)
class StepResult:
    """What a composition does to everything that is measured.

    Attributes:
        number: Of the step, from 1.
        label: Of the step, such as the paper's "t1"; may be empty.
        action: What the step did, such as "erase Picasso".
        states: Concept -> "erased" or "generates".
        scores: One a concept.
        paraphrases: One a concept and kind of paraphrases; empty where only names were measured.
        ordinary: LPIPS on ordinary prompts.
        ordinary_frechet: Fréchet distance on them.
        watermark: Trigger -> share of its images that decode to its payload.
        base_watermark: The same on the base.
    """

    number: int
    label: str
    action: str
    digest: str
    states: Mapping[str, str]
    scores: tuple[ConceptScore, ...]
    paraphrases: tuple[ParaphraseScore, ...]
    ordinary: Estimate
    ordinary_frechet: float
    watermark: Mapping[str, Estimate]
    base_watermark: Mapping[str, Estimate]


@dataclass(frozen=True)
class Evaluation:
    """Steps of erasing and restoring, measured.

    Attributes:
        name: Of the scene; "active composition" without one.
        method: Of the shifts; "as registered" if no scene is played.
        images: Images a cell.
        classifier: Which classifier looked.
        steps: In their order.
        goals: Worst cells against what they should be.
        reference: Step's label -> concept -> published "FID/ACC/LPIPS".
        image: Grid of base and steps, a local file.
        report_path: The evaluation as JSON, a local file.
        created: UTC, ISO 8601.
    """

    name: str
    base: str
    method: str
    images: int
    seed: int
    classifier: str
    steps: tuple[StepResult, ...]
    goals: tuple[Check, ...]
    passed: bool
    reference: Mapping[str, Mapping[str, str]]
    image: Path | None
    report_path: Path | None
    created: str


def check_goals(steps: Sequence[StepResult], goals: Mapping[str, float]) -> tuple[Check, ...]:
    """Compares the worst cell of each goal with its limit.

    Args:
        goals: Name of a goal -> limit; see ``scenes.GOALS``. Goals without a cell are omitted.
    """
    cells = [cell for step in steps for cell in _cells(step)]
    checks = []
    for goal, limit in goals.items():
        mine = [(value, where) for name, where, value in cells if name == goal]
        if not mine:
            continue
        value, where = max(mine, key=lambda cell: (_number(cell[0]), cell[1]))
        explanation = f"The worst of {len(mine)} cells is {where}: {_number(value):.4g}."
        checks.append(Check.at_most(goal, where, value, limit, explanation))
    return tuple(checks)


def _cells(step: StepResult) -> Iterator[Cell]:
    name = step.label or f"step {step.number}"
    for score in step.scores:
        where = f"{score.concept}, {name}"
        if score.role == "forgotten":
            yield "forgotten accuracy", where, score.accuracy
        elif score.role == "recovered":
            yield "recovered LPIPS", where, score.lpips
            yield "recovered Fréchet distance", where, score.frechet
        else:
            lost = score.base_accuracy.value - score.accuracy.value
            yield "regular accuracy lost", where, lost
            yield "regular LPIPS", where, score.lpips
    for paraphrase in step.paraphrases:
        if paraphrase.role == "forgotten" and paraphrase.form == "held-out prompts":
            goal = "forgotten accuracy, held-out prompts"
            yield goal, f"{paraphrase.concept}, {name}", paraphrase.after
    yield "ordinary LPIPS", name, step.ordinary
    for trigger, after in step.watermark.items():
        lost = step.base_watermark[trigger].value - after.value
        yield "watermark lost", f"'{trigger}', {name}", lost


def _number(value: float | Estimate) -> float:
    return value.value if isinstance(value, Estimate) else value
