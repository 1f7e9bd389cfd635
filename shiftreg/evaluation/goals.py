"""Goals: the worst cell of an evaluation against the most that it may show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from shiftreg.checks import Check
from shiftreg.evaluation.intervals import Estimate
from shiftreg.evaluation.results import StepResult

Cell = tuple[str, str, float | Estimate]  # goal, where, value


def check_goals(steps: Sequence[StepResult], goals: Mapping[str, float]) -> tuple[Check, ...]:
    """Compares the worst cell of each goal with its limit.

    Args:
        steps: What was measured.
        goals: Name of a goal -> limit; see ``scenes.GOALS``. Goals without a cell are left out.
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
