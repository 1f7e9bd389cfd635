"""The command that writes a page about a composition: ``report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from .failures import CHECK_FAILED
from .options import (
    ClassifierOption,
    ForceOption,
    OnlyOption,
    WithoutOption,
    Writing,
    examples,
    with_common,
)
from .parsing import choose

if TYPE_CHECKING:
    from shiftreg.api.report.reporting import ReportResult

commands = typer.Typer()


@commands.command(
    epilog=examples(
        "shiftreg report",
        "shiftreg report model.ckpt --out model.html",
        "shiftreg report --without Picasso --images 8 --force",
    )
)
@with_common
def report(
    common: Writing,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            exists=True,
            help="An exported model; the composition itself by default.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to.")] = Path("report.html"),
    only: OnlyOption = None,
    without: WithoutOption = None,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Images a prompt.")] = 4,
    classifier: ClassifierOption = None,
    force: ForceOption = False,
) -> None:
    """Verify, and write one HTML page with images, checks, measurements, lineage and history.

    The page holds everything it shows, for a browser or for paper, and with it the latest
    evaluation and attacks of the composition, if there are any.

    Exit code 0 if all checks pass, 1 if one fails; the page is written in both cases.
    """
    selection = choose(only, without)
    workspace = common.workspace()
    from shiftreg import api

    with common.progress() as observe:
        result = api.write_report(
            workspace,
            out,
            file=file,
            selection=selection,
            images=images,
            classifier=classifier,
            overwrite=force,
            observe=observe,
        )
    common.show(result, _rendered(result))
    if not result.passed:
        raise typer.Exit(CHECK_FAILED)


def _rendered(result: "ReportResult") -> RenderableType:
    from . import render

    verdict = (
        f"All {result.checks} checks passed"
        if result.passed
        else f"{result.failed} of {result.checks} checks failed: see the page"
    )
    rows = {
        "written": result.path,
        "size": render.size(result.path),
        "about": result.file or f"composition {result.plan.digest[:12]}",
        "images": result.images,
        "digest": result.digest,
    }
    return Group(
        Text(verdict, style="bold green" if result.passed else "bold red"), render.pairs(rows)
    )
