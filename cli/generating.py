"""The command ``generate``: images for files of prompts, for any tool to look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .engine_options import EngineOption, WorkersOption
from .options import Common, DryRunOption, examples, with_common

commands = typer.Typer()


@commands.command(
    "generate-csv",
    epilog=examples(
        "shiftreg generate-csv prompts.csv images",
        'shiftreg generate-csv prompts.csv images --composition "without Picasso"',
        'shiftreg generate-csv prompts.csv images --composition "only Caravaggio" --count 5',
        "shiftreg generate-csv prompts.csv classes --composition none --by-prompt --steps 12",
        "shiftreg generate-csv prompts.csv images --engine processes --workers 4",
    ),
)
@with_common
def generate(
    common: Common,
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS.csv",
            exists=True,
            dir_okay=False,
            help="Columns prompt, evaluation_seed and, if there is one, case_number.",
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New, or one to go on with.")],
    *,
    composition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS",
            help="active (the default), 'without A,B', 'only A,B' or none. Repeat.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Images a line.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Denoising steps; the base's by default.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(min=0, metavar="X", help="Guidance scale; the base's by default."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images generated together.")] = 25,
    by_prompt: Annotated[
        bool, typer.Option("--by-prompt", help="A subfolder for each prompt, as for classes.")
    ] = False,
    skip_long: Annotated[
        bool,
        typer.Option("--skip-long", help="Leave lines out that are too long for the encoder."),
    ] = False,
    no_base: Annotated[
        bool, typer.Option("--no-base", help="Generate the compositions alone.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace everything that was generated to the folder before."),
    ] = False,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Generate a file of prompts with the base and with compositions, each line from one noise.

    Images go to FOLDER/base, FOLDER/active and so on: 7_0.png is the first of case 7.
    Interrupted, the same command goes on where it was.
    """
    workspace = common.workspace()
    from shiftreg import api

    from . import render_generation

    settings: dict[str, Any] = {
        "compositions": tuple(map(api.Selection.parse, composition or ("active",))),
        "with_base": not no_base,
        "count": count,
        "steps": steps,
        "guidance": guidance,
        "batch_size": batch,
        "by_prompt": by_prompt,
        "skip_long": skip_long,
        "overwrite": force,
    }
    if dry_run:
        plan = api.plan_generation(workspace, prompts, folder, **settings)
        common.show(plan, render_generation.plan(plan))
        common.note("Dry run: nothing was generated.")
        return
    done_by = api.choose_engine(workspace, engine, workers=workers)
    try:
        with common.progress() as observe, done_by:
            result = api.generate_images(
                workspace, prompts, folder, **settings, engine=done_by, observe=observe
            )
    except KeyboardInterrupt:
        common.note("What is generated stays. The same command goes on from there.")
        raise
    common.show(result, render_generation.result(result))
