"""Images: ``generate`` of prompts or of a file of them, ``samples`` of what an erasure does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api

from .console import safe
from .options import (
    FILE,
    ONLY,
    WITHOUT,
    Common,
    EngineOption,
    GuidanceOption,
    StepsOption,
    WorkersOption,
    Writing,
    command,
    option,
)
from .parsing import choose, read_seeds
from .render import STATE_STYLES, make_table, pairs, quoted, short, warnings

if TYPE_CHECKING:
    from shiftreg.api.generation.job import GenerationPlan
    from shiftreg.api.values import GridResult

_GRID, _FILE = "A grid of prompts", "A file of prompts (--csv)"


@command(
    "Models",
    "shiftreg generate Caravaggio Picasso",
    'shiftreg generate "a church by Caravaggio" --seeds 1,2,3 --out church.png',
    "shiftreg generate Picasso --without Picasso --seed 7 --count 2",
    "shiftreg generate --csv prompts.csv --out images",
    'shiftreg generate --csv prompts.csv --out images --composition "only Picasso"',
    "shiftreg generate --csv classes.csv --out c --composition none --by-prompt",
    "shiftreg generate --csv prompts.csv --out images --engine ray --workers 4",
)
def generate(
    common: Common,
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="Prompts of a grid, a row each.")
    ] = None,
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="PNG of the grid, grid.png by default; with --csv a folder, new or to be resumed.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images per prompt; 4 in a grid, else 1.")
    ] = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing grid, or everything in the folder.")
    ] = False,
    seeds: Annotated[
        str | None, option(_GRID, metavar="0,1,...", help="Seeds; 0,1,2,3 by default.")
    ] = None,
    seed: Annotated[
        int | None, option(_GRID, min=0, metavar="N", help="First of --count seeds.")
    ] = None,
    only: Annotated[list[str] | None, option(_GRID, **ONLY)] = None,
    without: Annotated[list[str] | None, option(_GRID, **WITHOUT)] = None,
    csv: Annotated[
        Path | None,
        option(
            _FILE,
            **FILE,
            help="Columns prompt, evaluation_seed and, optionally, case_number.",
        ),
    ] = None,
    composition: Annotated[
        list[str] | None,
        option(
            _FILE,
            metavar="WORDS",
            help="active (the default), 'without A,B', 'only A,B' or none. Repeat.",
        ),
    ] = None,
    no_base: Annotated[
        bool, option(_FILE, "--no-base", help="Generate with the compositions only.")
    ] = False,
    by_prompt: Annotated[
        bool, option(_FILE, "--by-prompt", help="A subfolder for each prompt, as for classes.")
    ] = False,
    skip_long: Annotated[
        bool,
        option(_FILE, "--skip-long", help="Skip prompts that are too long for the text encoder."),
    ] = False,
    batch: Annotated[
        int | None,
        option(_FILE, min=1, metavar="N", help="Images generated at once; 25 by default."),
    ] = None,
    engine: EngineOption = "auto",
    workers: WorkersOption = None,
    dry_run: Annotated[
        bool, option(_FILE, "--dry-run", help="Show what would be generated, and stop.")
    ] = False,
) -> None:
    """Generate images with the base and with the composition, side by side, from the same seeds.

    With --csv, prompts and seeds come from a file, and images go to FOLDER/base, FOLDER/active and
    so on: 7_0.png is the first of case 7. If interrupted, the same command resumes.
    """
    of_grid: dict[str, object] = {
        "PROMPT": prompt,
        "--seeds": seeds,
        "--seed": seed,
        "--only": only,
        "--without": without,
    }
    of_file: dict[str, object] = {
        "--composition": composition,
        "--no-base": no_base,
        "--by-prompt": by_prompt,
        "--skip-long": skip_long,
        "--batch": batch,
        "--engine": engine != "auto",
        "--workers": workers,
        "--dry-run": dry_run,
    }
    if csv is None:
        _refuse(of_file, "requires --csv FILE; a grid of prompts does not take it.")
        if not prompt:
            raise typer.BadParameter("Give the PROMPTs of a grid, or a file of them: --csv FILE.")
        selection, numbers = choose(only, without), read_seeds(seeds, seed, count)
        workspace = common.workspace()
        with common.progress() as observe:
            grid = api.generate_grid(
                workspace,
                prompt,
                out or Path("grid.png"),
                selection=selection,
                seeds=numbers,
                steps=steps,
                guidance=guidance,
                overwrite=force,
                observe=observe,
            )
        common.show(grid, render_grid(grid))
        return
    _refuse(
        of_grid,
        "cannot be combined with --csv: the file gives prompts and seeds, --composition the "
        "concepts.",
    )
    if out is None:
        raise typer.BadParameter("--csv needs --out FOLDER: where do the images go?")
    workspace = common.workspace()
    settings = api.GenerationSettings(
        compositions=tuple(map(api.Selection.parse, composition or ("active",))),
        with_base=not no_base,
        count=count or 1,
        steps=steps,
        guidance=guidance,
        batch_size=batch or 25,
        by_prompt=by_prompt,
        skip_long=skip_long,
        overwrite=force,
    )
    if dry_run:
        plan = api.plan_generation(workspace, csv, out, settings)
        common.plan(
            plan, render_job(plan, "To generate"), dry_run=True, note="nothing was generated."
        )
        return
    runs_on = api.choose_engine(workspace, engine, workers=workers)
    try:
        with common.progress() as observe, runs_on:
            result = api.generate_images(
                workspace, csv, out, settings, engine=runs_on, observe=observe
            )
    except KeyboardInterrupt:
        common.note("The images so far are kept. The same command resumes from there.")
        raise
    common.show(result, render_job(result.plan, "Generated"))


@command("Concepts", "shiftreg samples Caravaggio", "shiftreg samples Caravaggio@1 --count 8")
def samples(
    common: Writing,
    concept: Annotated[
        str, typer.Argument(metavar="CONCEPT[@VERSION]", help="The active version by default.")
    ],
    *,
    count: Annotated[
        int, typer.Option(min=1, max=16, metavar="N", help="Images of each prompt.")
    ] = 4,
) -> None:
    """Show what an erasure does: the same prompts and seeds without and with its shift.

    The image is kept with the version, and shown as evidence.
    """
    workspace = common.workspace()
    with common.progress() as observe:
        path = api.generate_samples(workspace, concept, seeds=range(count), observe=observe)
    common.show({"samples": path}, pairs({"before and after": path}))


def _refuse(options: dict[str, object], why: str) -> None:
    """Refuses options of the other form of the command.

    Raises:
        typer.BadParameter: One is given.
    """
    for name, value in options.items():
        if value is not None and value is not False and value != []:
            raise typer.BadParameter(f"{name} {why}")


def render_grid(result: "GridResult") -> RenderableType:
    """An image that was written."""
    return pairs(
        {
            "written": result.path,
            "prompts": quoted(result.prompts),
            "seeds": ", ".join(map(str, result.seeds)),
            "columns": f"base {result.plan.base} and composition {short(result.plan.digest)}",
        }
    )


def render_job(job: "GenerationPlan", new: str) -> RenderableType:
    """What went or would go to which folder, and what each composition erases."""
    each = f", {job.count} images each" if job.count > 1 else ""
    settings = pairs(
        {
            "folder": job.folder,
            "prompts": f"{job.cases} cases of {job.prompts}{each}",
            "base": f"{job.base} {short(job.base_digest)}",
            "sampling": f"{job.steps} steps, guidance {job.guidance:g}",
        }
    )
    rows = (
        (
            one.name,
            "none: the base" if one.composition == "none" else one.composition,
            short(one.plan.digest),
            one.new,
            one.kept,
        )
        for one in job.folders
    )
    folders = make_table("Subfolder", "Composition", "Digest", new, "Kept", rows=rows)
    return Group(settings, folders, *_states(job), *warnings(job.warnings))


def _states(job: "GenerationPlan") -> list[RenderableType]:
    """Every concept with its state in each composition; the base generates them all."""
    composed = [one for one in job.folders if one.composition != "none"]
    if not composed or not composed[0].plan.states:
        return []
    rows = (
        (
            name,
            *(
                Text(
                    safe(one.plan.statements[row].removeprefix(f"{name}: ")),
                    STATE_STYLES[one.plan.states[name]],
                )
                for one in composed
            ),
        )
        for row, name in enumerate(composed[0].plan.states)
    )
    return [make_table("Concept", *(one.composition for one in composed), rows=rows)]
