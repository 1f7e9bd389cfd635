"""The command that measures an erasure: ``evaluate``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .failures import fail_unless
from .options import (
    ClassifierOption,
    EngineOption,
    OnlyOption,
    WithoutOption,
    WorkersOption,
    Writing,
    command,
)
from .parsing import choose, read_values
from .render import make_table, measured, number, pairs, share, verdict

if TYPE_CHECKING:
    from shiftreg.api.values import Check, Evaluation, ParaphraseScore, StepResult

STYLES = {"forgotten": "red", "recovered": "green", "regular": ""}


@command(
    "Measure",
    "shiftreg evaluate",
    "shiftreg evaluate examples/scenes/scene1.yaml",
    "shiftreg evaluate examples/scenes/scene4.yaml --method srs-me --json",
    "shiftreg evaluate --without Picasso --classifier styles.safetensors",
)
def evaluate(
    common: Writing,
    scene: Annotated[
        Path | None,
        typer.Argument(
            metavar="SCENE.yaml",
            help="Steps of erasing and restoring; the current composition by default.",
        ),
    ] = None,
    *,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Eraser of the scene's steps; see shiftreg methods."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Option of the eraser. Repeat."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Images per cell; 10 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of erasers and images.")] = 0,
    paraphrases: Annotated[
        Literal["last", "all", "none"],
        typer.Option(help="After which steps to evaluate paraphrases, too."),
    ] = "last",
    classifier: ClassifierOption = None,
    only: OnlyOption = None,
    without: WithoutOption = None,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Measure what is gone, what came back, and what it costs.

    Names, held-out prompts, aliases, misspellings, other spellings, neighbours, ordinary prompts
    and watermarks, each with its 95% interval. A scene runs in a registry of its own: nothing of
    yours is erased or restored. If interrupted, the same command resumes.

    Exit code 0 if all goals are met, 1 if one is missed.
    """
    selection = choose(only, without)
    options = read_values(setting)
    workspace = common.workspace()
    read = api.read_scene(scene) if scene else None
    runs_on = api.choose_engine(workspace, engine, workers=workers)
    with common.progress() as observe, runs_on:
        result = api.evaluate(
            workspace,
            read,
            method=method,
            options=options or None,
            images=images,
            seed=seed,
            paraphrases=paraphrases,
            classifier=classifier,
            selection=selection,
            engine=runs_on,
            observe=observe,
        )
    common.show(result, render_evaluation(result))
    fail_unless(result.passed)


def render_evaluation(result: "Evaluation") -> RenderableType:
    """All of an evaluation."""
    parts: list[RenderableType] = []
    for step in result.steps:
        published = result.reference.get(step.label, {})
        # Without numbers of the step there is nothing that the original ones would explain.
        original = result.reference.get("original", {}) if published else {}
        parts.append(render_step(step, published, original))
        if step.paraphrases:
            parts.append(render_paraphrases(step.paraphrases))
    parts.append(render_goals(result.goals))
    missed = sum(not goal.passed for goal in result.goals)
    outcome = f"{missed} of {len(result.goals)} goals missed" if missed else "All goals met"
    parts.append(verdict(f"{outcome}: {result.name}", passed=not missed))
    facts = {
        "method": result.method,
        "classifier": result.classifier,
        "images": f"{result.images} per cell, 95% intervals",
        "grid": result.image,
        "report": result.report_path,
    }
    return Group(*parts, pairs(facts))


def render_step(
    step: "StepResult", reference: Mapping[str, str], original: Mapping[str, str]
) -> RenderableType:
    """One step: a row a concept, and what is ordinary below.

    Args:
        reference: Concept -> what was published of the step; may be empty.
        original: The same of the model in which nothing is erased.
    """
    rows: list[Sequence[object] | None] = []
    for score in step.scores:
        role = "erased" if score.role == "forgotten" else f"generates ({score.role})"
        rows.append(
            (
                score.concept,
                Text(role, STYLES[score.role]),
                f"{score.frechet:.2f}",
                share(score.accuracy),
                f"{score.lpips.value:.4f}",
                number(score.style.value),
                *(one.get(score.concept, "") for one in (reference, original) if one),
            )
        )
    ordinary = f"{step.ordinary_frechet:.2f}", "", f"{step.ordinary.value:.4f}"
    rows += [None, ("ordinary prompts", "", *ordinary)]
    for trigger, rate in step.watermark.items():
        before = share(step.base_watermark[trigger])
        rows.append((f"'{trigger}'", f"base: {before}", "", share(rate), ""))
    columns = ["Concept", "Now", "FD", "Detected", "LPIPS", "Style"]
    columns += ["Paper"] * bool(reference) + ["Original"] * bool(original)
    title = f"{step.label or f'Step {step.number}'}: {step.action or 'nothing is erased'}"
    table = make_table(*columns, rows=rows, title=title)
    if reference:  # below the table: as headings, they would break the columns of a terminal
        table.caption = "Paper, after this step; original, before any: FID/ACC/LPIPS"
        table.caption_justify = "left"
    return table


def render_paraphrases(scores: Sequence["ParaphraseScore"]) -> RenderableType:
    """Kinds of paraphrases: how often concepts are detected, pooled, and in the worst one."""
    from shiftreg.api.values import pooled_rate

    rows: list[Sequence[object] | None] = []
    for role, word in (("forgotten", "erased"), ("recovered", "recovered"), ("regular", "regular")):
        for form in dict.fromkeys(score.form for score in scores):
            mine = [score for score in scores if score.form == form and score.role == role]
            if not mine:
                continue
            # It is bad to detect an erased concept, and good to detect another, or a neighbour.
            pick = max if role == "forgotten" and form != "neighbours" else min
            worst = pick(mine, key=lambda score: score.after.value)
            rows.append(
                (
                    form,
                    f"{len(mine)} {word}",
                    share(pooled_rate([score.base for score in mine])),
                    share(pooled_rate([score.after for score in mine])),
                    f"{worst.concept} {share(worst.after)}",
                    f"{sum(score.lpips.value for score in mine) / len(mine):.4f}",
                )
            )
        rows.append(None)
    columns = "Prompts", "Concepts", "Base", "Now", "Worst", "LPIPS"
    return make_table(*columns, rows=rows, title="Paraphrases")


def render_goals(checks: Sequence["Check"]) -> RenderableType:
    """Goals, each with its worst cell."""
    rows = (
        (
            check.name,
            check.subject,
            measured(check),
            number(check.limit),
            Text("met", "green") if check.passed else Text("MISSED", "bold red"),
        )
        for check in checks
    )
    return make_table("Goal", "Worst cell", "Value", "Limit", "Result", rows=rows)
