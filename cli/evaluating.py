"""The command that measures: ``evaluate``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .engine_options import EngineOption, WorkersOption
from .failures import CHECK_FAILED
from .options import (
    ClassifierOption,
    OnlyOption,
    WithoutOption,
    Writing,
    examples,
    with_common,
)
from .parsing import choose, read_value, split_pair

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg evaluate",
        "shiftreg evaluate examples/scenes/scene1.yaml",
        "shiftreg evaluate examples/scenes/scene4.yaml --method srs-me --images 20 --json",
        "shiftreg evaluate --without Picasso --classifier styles.safetensors",
    )
)
@with_common
def evaluate(
    common: Writing,
    scene: Annotated[
        Path | None,
        typer.Argument(
            metavar="SCENE.yaml",
            help="Steps of erasing and restoring; the composition at hand by default.",
            show_default=False,
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
        int | None, typer.Option(min=2, metavar="N", help="Images a cell; 10 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of erasers and images.")] = 0,
    paraphrases: Annotated[
        Literal["last", "all", "none"],
        typer.Option(help="After which steps to look at paraphrases, too."),
    ] = "last",
    classifier: ClassifierOption = None,
    only: OnlyOption = None,
    without: WithoutOption = None,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
) -> None:
    """Measure what is gone, what came back, and what it costs.

    Names, held-out prompts, aliases, misspellings, other spellings, neighbours, ordinary prompts
    and watermarks, each with its 95% interval. A scene is played in a registry of its own: nothing
    of yours is erased or restored. Interrupted, it goes on where it was.

    Exit code 0 if all goals are met, 1 if one is not.
    """
    selection = choose(only, without)
    options = {k: read_value(v) for k, v in (split_pair(s, "--set") for s in setting or ())}
    workspace = common.workspace()
    from shiftreg import api

    from . import render_evaluation

    read = api.read_scene(scene) if scene else None
    done_by = api.choose_engine(workspace, engine, workers=workers)
    with common.progress() as observe, done_by:
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
            engine=done_by,
            observe=observe,
        )
    common.show(result, render_evaluation.evaluation(result))
    if not result.passed:
        raise typer.Exit(CHECK_FAILED)
