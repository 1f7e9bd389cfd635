"""An evaluation as tables: a scene step by step, paraphrases, goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import make_table, measured, number, pairs

if TYPE_CHECKING:
    from shiftreg.api.values import Check, Estimate, Evaluation, ParaphraseScore, StepResult

STYLES = {"forgotten": "red", "recovered": "green", "regular": ""}


def evaluation(result: Evaluation) -> RenderableType:
    """All of an evaluation."""
    parts: list[RenderableType] = []
    for step in result.steps:
        published = result.reference.get(step.label, {})
        # Without numbers of the step there is nothing that the original ones would explain.
        original = result.reference.get("original", {}) if published else {}
        parts.append(scene_step(step, published, original))
        if step.paraphrases:
            parts.append(paraphrases(step.paraphrases))
    parts.append(goals(result.goals))
    missed = sum(not goal.passed for goal in result.goals)
    verdict = f"{missed} of {len(result.goals)} goals missed" if missed else "All goals met"
    parts.append(Text(f"{verdict}: {safe(result.name)}", "bold red" if missed else "bold green"))
    facts = {
        "method": result.method,
        "classifier": result.classifier,
        "images": f"{result.images} a cell, intervals of 95%",
        "grid": result.image,
        "report": result.report_path,
    }
    parts.append(pairs(facts))
    return Group(*parts)


def scene_step(
    step: StepResult, reference: Mapping[str, str], original: Mapping[str, str]
) -> RenderableType:
    """One step: a row a concept, and what is ordinary below.

    Args:
        step: What was measured.
        reference: Concept -> what was published of the step; may be empty.
        original: The same of the model in which nothing is erased.
    """
    title = f"{step.label or f'Step {step.number}'}: {step.action or 'nothing is erased'}"
    columns = ["Concept", "Now", "FD", "Found", "LPIPS", "Style"]
    columns += ["Paper"] * bool(reference) + ["Original"] * bool(original)
    table = make_table(*columns)
    table.title, table.title_justify = safe(title), "left"
    if reference:  # below the table: as headings, they would break the columns of a terminal
        table.caption = "Paper, after this step; original, before any: FID/ACC/LPIPS"
        table.caption_justify = "left"
    for score in step.scores:
        word = "erased" if score.role == "forgotten" else "generates"
        role = f"{word} ({score.role})" if score.role != "forgotten" else word
        table.add_row(
            safe(score.concept),
            Text(role, STYLES[score.role]),
            f"{score.frechet:.2f}",
            share(score.accuracy),
            f"{score.lpips.value:.4f}",
            number(score.style.value),
            *(safe(one.get(score.concept, "")) for one in (reference, original) if one),
        )
    table.add_section()
    table.add_row(
        "ordinary prompts", "", f"{step.ordinary_frechet:.2f}", "", f"{step.ordinary.value:.4f}"
    )
    for trigger, rate in step.watermark.items():
        before = share(step.base_watermark[trigger])
        table.add_row(safe(f"'{trigger}'"), f"base: {before}", "", share(rate), "")
    return table


def paraphrases(scores: Sequence[ParaphraseScore]) -> RenderableType:
    """Kinds of paraphrases: how often the concepts are found, pooled, and in the worst one."""
    from shiftreg.api.values import pooled_rate

    table = make_table("Prompts", "Concepts", "Base", "Now", "Worst", "LPIPS")
    table.title, table.title_justify = "Paraphrases", "left"
    for role, word in (("forgotten", "erased"), ("recovered", "recovered"), ("regular", "regular")):
        for form in dict.fromkeys(score.form for score in scores):
            mine = [s for s in scores if s.form == form and s.role == role]
            if not mine:
                continue
            # Of an erased concept, to be found is bad; of any other, and of neighbours, not to be.
            found_is_bad = role == "forgotten" and form != "neighbours"
            pick = max if found_is_bad else min
            worst = pick(mine, key=lambda s: s.after.value)
            table.add_row(
                safe(form),
                f"{len(mine)} {word}",
                share(pooled_rate([s.base for s in mine])),
                share(pooled_rate([s.after for s in mine])),
                f"{safe(worst.concept)} {share(worst.after)}",
                f"{_mean(s.lpips.value for s in mine):.4f}",
            )
        table.add_section()
    return table


def goals(checks: Sequence[Check]) -> RenderableType:
    """Goals, each with its worst cell."""
    table = make_table("Goal", "Worst cell", "Value", "Limit", "Result")
    for check in checks:
        table.add_row(
            safe(check.name),
            safe(check.subject),
            measured(check),
            number(check.limit),
            Text("met", "green") if check.passed else Text("MISSED", "bold red"),
        )
    return table


def share(estimate: Estimate) -> str:
    """A share with its interval: "62% (31-86%)"."""
    return f"{estimate.value:.0%} ({100 * estimate.low:.0f}-{estimate.high:.0%})"


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)
