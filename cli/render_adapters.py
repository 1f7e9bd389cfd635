"""Adapters as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import make_table, number, pairs, short, size, warnings

if TYPE_CHECKING:
    from shiftreg.api.composition.adapter_planning import AdapterPlan
    from shiftreg.api.composition.adapting import AdapterResult


def plan(value: AdapterPlan) -> RenderableType:
    """What an adapter would hold."""
    table = make_table("Concept", "Shift")
    for concept, version, digest in sorted(value.plan.shifts, key=lambda s: s[0].lower()):
        table.add_row(safe(concept), f"version {version}, {short(digest)}")
    ranks = value.ranks and f"{value.ranks[0]} to {value.ranks[-1]}"
    facts = pairs(
        {
            "form": f"{value.form}, {value.dtype}",
            "changes": f"{value.parameters} parameters",
            "rank": ranks if len(value.ranks) > 1 else value.ranks,
            "tensors": f"{value.size / 1e6:.1f} MB",
        }
    )
    return Group(table, facts, Text(safe(value.strength), "bold"), *warnings(value.warnings))


def result(value: AdapterResult) -> RenderableType:
    """An adapter that was written."""
    drift = "as the shifts do: they are in it as they are" if value.exact else None
    if value.max_drift is not None:
        drift = f"by {number(value.max_drift)}"
    if value.plain_drift is not None:
        drift = f"{drift} (plain rounding: {number(value.plain_drift)})"
    kept = None if value.change_kept == 1 else f"{value.change_kept:.1%} of the change, or more"
    return pairs(
        {
            "written": value.path,
            "size": size(value.path),
            "digest": value.digest,
            "moves protected prompts": drift,
            "each layer keeps": kept,
            "recipe": value.recipe_path,
            "card": value.card_path,
            "registered": f"composition version {value.version}",
        }
    )
