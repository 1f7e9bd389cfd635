"""Generations as tables: what went to which folder, and what each composition erases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from .console import safe
from .render import STATE_STYLES, make_table, pairs, short, warnings

if TYPE_CHECKING:
    from shiftreg.api.generation.generate import GenerationResult
    from shiftreg.api.generation.job import GenerationPlan


def plan(value: GenerationPlan) -> RenderableType:
    """What would be generated."""
    return _generation(value, "To generate")


def result(value: GenerationResult) -> RenderableType:
    """What was generated."""
    return _generation(value.plan, "Generated")


def _generation(value: GenerationPlan, new: str) -> RenderableType:
    each = f", {value.count} images each" if value.count > 1 else ""
    settings = pairs(
        {
            "folder": value.folder,
            "prompts": f"{value.cases} cases of {value.prompts}{each}",
            "base": f"{value.base} {short(value.base_digest)}",
            "sampling": f"{value.steps} steps, guidance {value.guidance:g}",
        }
    )
    return Group(settings, _folders(value, new), *_states(value), *warnings(value.warnings))


def _folders(value: GenerationPlan, new: str) -> RenderableType:
    table = make_table("Subfolder", "Composition", "Digest", new, "Kept")
    for one in value.folders:
        words = "none: the base" if one.composition == "none" else one.composition
        digest = short(one.plan.digest)
        table.add_row(safe(one.name), safe(words), digest, str(one.new), str(one.kept))
    return table


def _states(value: GenerationPlan) -> list[RenderableType]:
    """Every concept with its state in each composition; the base generates them all."""
    composed = [one for one in value.folders if one.composition != "none"]
    if not composed or not composed[0].plan.states:
        return []
    table = make_table("Concept", *(safe(one.composition) for one in composed))
    for row, (name, _) in enumerate(composed[0].plan.states.items()):
        cells = [
            Text(
                safe(one.plan.statements[row].removeprefix(f"{name}: ")),
                STATE_STYLES[one.plan.states[name]],
            )
            for one in composed
        ]
        table.add_row(safe(name), *cells)
    return [table]
