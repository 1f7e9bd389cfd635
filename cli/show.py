"""Commands that only read: ``list``, ``show``, ``capacity``, ``methods``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shiftreg import api
from shiftreg.concepts import Kind

from .options import Common, ForceOption, ProtectOption, command
from .render import concepts, make_panel, make_table, number, pairs, plain, quoted

if TYPE_CHECKING:
    from shiftreg.api.erasure.capacity import CapacityRow
    from shiftreg.api.values import ConceptDetail

VERDICT_STYLES = {"fits": "green", "tight": "yellow", "does not fit": "red"}


@command("Concepts", "shiftreg list", "shiftreg list --json", name="list")
def list_concepts(common: Common) -> None:
    """List the concepts of a base: which are erased, which generate."""
    workspace = common.workspace()
    states = api.list_concepts(workspace)
    common.show(states, concepts(states))


@command("Concepts", "shiftreg show Caravaggio", "shiftreg show Caravaggio@1 --json")
def show(
    common: Common,
    concept: Annotated[str, typer.Argument(metavar="CONCEPT[@VERSION]", help="What to show.")],
) -> None:
    """Show a concept: its state, versions, metrics and history."""
    workspace = common.workspace()
    detail = api.show_concept(workspace, concept)
    common.show(detail, render_concept(detail))


@command(
    "Concepts",
    "shiftreg capacity",
    'shiftreg capacity "Claude Monet" "Edvard Munch" --plot capacity.png',
    "shiftreg capacity Hokusai --profile exact --profile svd:0.001 --json",
)
def capacity(
    common: Common,
    concept: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONCEPT", help="Further concepts, in order of erasure; all by default."
        ),
    ] = None,
    *,
    kind: Annotated[Kind, typer.Option(help="What the concepts are.")] = "style",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROFILE",
            help="exact, content:TOLERANCE or svd:TOLERANCE. Repeat; one of each by default.",
        ),
    ] = None,
    protect: ProtectOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Plot the predictions.")] = None,
    force: ForceOption = False,
) -> None:
    """Predict how many more concepts a base has room for; nothing is changed.

    A shift that leaves others exactly alone uses up dimensions of the text embedding; a profile
    with a tolerance uses fewer, and allows a bounded drift.
    """
    workspace = common.workspace()
    request = {"profiles": tuple(profile)} if profile else {}
    with common.progress() as observe:
        rows = api.plan_capacity(
            workspace,
            concept or (),
            kind=kind,
            protect=protect or (),
            plot=plot,
            overwrite=force,
            observe=observe,
            **request,
        )
    common.show(rows, render_capacity(rows))
    if plot is not None:
        common.note(f"Plotted: {plot}")


@command("Concepts", "shiftreg methods", "shiftreg methods srs-me")
def methods(
    common: Common,
    method: Annotated[
        list[str] | None, typer.Argument(metavar="METHOD", help="Names of methods.")
    ] = None,
) -> None:
    """List the erasure methods; for named ones, also what --set accepts."""
    described = api.list_methods(method)
    common.show(described, render_methods(described, with_options=bool(method)))


def render_concept(detail: "ConceptDetail") -> RenderableType:
    """A concept with its versions, newest last, and its history."""
    parts: list[RenderableType] = [concepts([detail.state])]
    for version in detail.versions:
        rows = {name: version.get(name) for name in ("created", "actor", "reason", "method")}
        rows |= {
            "aliases": version.get("aliases"),
            "protected": quoted(version.get("protected", ())),
            "metrics": version.get("metrics"),
            "digest": version.get("digest"),
            "predecessor": version.get("predecessor"),
            "run": version.get("run_id"),
        }
        title = f"Version {version.get('version')}" + (", active" * bool(version.get("active")))
        parts.append(make_panel(title, pairs(rows)))
    if detail.history:
        keys = ("time", "action", "actor", "reason")
        events = ([event.get(key, "") for key in keys] for event in detail.history)
        parts.append(make_table("When", "What", "Who", "Why", rows=events))
    return Group(*parts)


def render_methods(described: Sequence["api.Method"], *, with_options: bool) -> RenderableType:
    """Erasure methods, a row each, and perhaps their hyper-parameters."""
    rows: list[Sequence[object]] = []
    for method in described:
        if method.problem:
            rows.append((method.name, *["-"] * 4, f"{method.source}: {method.problem}"))
            continue
        trains = "yes" if method.trains else "no"
        separable = "yes" if method.separable else "no"
        if not method.recoverable:
            separable += ", and never restored"
        rows.append((method.name, trains, separable, method.changes, method.cost, method.source))
    table = make_table("api.Method", "Trains", "Separable", "Changes", "Cost", "Source", rows=rows)
    if not with_options:
        return table
    options = (
        (method.name, name, plain(option.default), option.meaning)
        for method in described
        for name, option in method.options.items()
    )
    return Group(table, make_table("api.Method", "--set", "Default", "Meaning", rows=options))


def render_capacity(predicted: Sequence["CapacityRow"]) -> RenderableType:
    """What further concepts would take, a row each."""
    rows = (
        (
            row.profile,
            row.concept,
            f"{row.used} of {row.width}",
            row.free,
            f"{row.residual:.1%}",
            number(row.ratio),
            f"{row.max_drift:.1e}",
            Text(row.verdict, style=VERDICT_STYLES[row.verdict]),
        )
        for row in predicted
    )
    columns = "Profile", "Concept", "Used", "Free", "Stays", "|delta|/|W|", "Max drift"
    return make_table(*columns, "Verdict", rows=rows)
