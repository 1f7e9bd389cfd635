"""The command that writes a page about a composition: ``report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType

from shiftreg import api

from .failures import fail_unless
from .options import (
    ClassifierOption,
    ForceOption,
    ImagesOption,
    OnlyOption,
    WithoutOption,
    Writing,
    command,
)
from .parsing import choose
from .render import pairs, size, verdict

if TYPE_CHECKING:
    from shiftreg.api.report.report import ReportResult


@command(
    "Evidence",
    "shiftreg report",
    "shiftreg report model.ckpt --out model.html",
    "shiftreg report --without Picasso --images 8 --force",
)
def report(
    common: Writing,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", exists=True, help="An exported model; the composition by default."
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Page to write.")] = Path("report.html"),
    only: OnlyOption = None,
    without: WithoutOption = None,
    images: ImagesOption = 4,
    classifier: ClassifierOption = None,
    force: ForceOption = False,
) -> None:
    """Verify, and write one HTML page with images, checks, measurements, lineage and history.

    The page is self-contained, for a browser or for paper, and includes the latest evaluation and
    attacks of the composition, if there are any.

    Exit code 0 if all checks pass, 1 if one fails; the page is written either way.
    """
    selection = choose(only, without)
    workspace = common.workspace()
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
    common.show(result, render_page(result))
    fail_unless(result.passed)


def render_page(result: "ReportResult") -> RenderableType:
    """A page that was written."""
    outcome = (
        f"All {result.checks} checks passed"
        if result.passed
        else f"{result.failed} of {result.checks} checks failed: see the page"
    )
    rows = {
        "written": result.path,
        "size": size(result.path),
        "about": result.file or f"composition {result.plan.digest[:12]}",
        "images": result.images,
        "digest": result.digest,
    }
    return Group(verdict(outcome, passed=result.passed), pairs(rows))
