"""What would be done, and by which means, as tables and panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from .console import safe
from .render import make_table, number, pairs, plain, quoted, warnings

if TYPE_CHECKING:
    from shiftreg.api.erasure.capacity import CapacityRow
    from shiftreg.api.erasure.importing import ForeignShift
    from shiftreg.api.erasure.methods import Method
    from shiftreg.api.values import ErasurePlan

VERDICT_STYLES = {"fits": "green", "tight": "yellow", "does not fit": "red"}


def methods(described: Sequence[Method], *, with_options: bool) -> RenderableType:
    """Methods of erasing, a row each, and perhaps their hyper-parameters."""
    table = make_table("Method", "Trains", "Separable", "Changes", "Cost", "Source")
    for method in described:
        separable = "yes" if method.separable else "no"
        if not method.recoverable:
            separable += ", and never restored"
        facts = (method.changes, method.cost, method.source)
        if method.problem:
            table.add_row(safe(method.name), *["-"] * 4, safe(f"{method.source}: {method.problem}"))
        else:
            trains = "yes" if method.trains else "no"
            table.add_row(safe(method.name), trains, separable, *map(safe, facts))
    if not with_options:
        return table
    options = make_table("Method", "--set", "Default", "Meaning")
    for method in described:
        for name, option in method.options.items():
            cells = (method.name, name, plain(option.default), option.meaning)
            options.add_row(*map(safe, cells))
    return Group(table, options)


def erasure_plan(plan: ErasurePlan) -> RenderableType:
    """What an erasure would do, in a panel."""
    capacity = plan.capacity
    rows = {
        "loses it": quoted(plan.prompts),
        "preserved": f"{quoted(plan.preserved)}: change as little as possible",
    }
    if plan.protected:
        rows["protected"] = f"{quoted(plan.protected)}: stay exactly as they are"
    if plan.aliases:
        rows = {"aliases": ", ".join(plan.aliases), **rows}
    if capacity:
        rows["capacity"] = (
            f"{capacity['free']:.0f} of {capacity['width']:.0f} dimensions are free (m); "
            f"the concept reaches {capacity['support']:.0f} of them (q)"
        )
        rows["predicted"] = (
            f"{capacity['predicted_residual']:.1%} of the concept stays; "
            f"|delta|/|W| {number(capacity['predicted_ratio'])}"
        )
    rows["options"] = plain(plan.hyperparameters)
    return Panel(
        Group(pairs(rows), *warnings(plan.warnings)),
        title=safe(f"Erase {plan.concept} ({plan.kind}) from {plan.base} by {plan.method}"),
        title_align="left",
        expand=False,
    )


def capacity(rows: Sequence[CapacityRow]) -> RenderableType:
    """What further concepts would take, a row each."""
    table = make_table(
        "Profile", "Concept", "Used", "Free", "Stays", "|delta|/|W|", "Max drift", "Verdict"
    )
    for row in rows:
        table.add_row(
            safe(row.profile),
            safe(row.concept),
            f"{row.used} of {row.width}",
            str(row.free),
            f"{row.residual:.1%}",
            number(row.ratio),
            f"{row.max_drift:.1e}",
            Text(row.verdict, style=VERDICT_STYLES[row.verdict]),
        )
    return table


def foreign_shift(foreign: ForeignShift) -> RenderableType:
    """What a file of another tool would register, in a panel."""
    rows = {key: value for key, value in foreign.summary().items() if key != "left_out"}
    return Panel(
        Group(pairs(rows), *warnings(foreign.left_out)),
        title=safe(f"Import {foreign.path.name} as a shift of {foreign.concept.name}"),
        title_align="left",
        expand=False,
    )


def stale(shifts: Sequence[tuple[str, tuple[str, ...]]]) -> RenderableType:
    """Shifts that a refresh would make anew, and why."""
    table = make_table("Shift", "Does not protect")
    for name, towards in shifts:
        table.add_row(safe(name), safe(", ".join(towards)))
    return table
