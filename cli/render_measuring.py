"""Comparisons of image folders as tables: one a compared folder, a row a metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from .console import safe
from .render import make_table, number, pairs, warnings
from .render_evaluation import share

if TYPE_CHECKING:
    from shiftreg.api.measurement.measuring import FolderMeasurement
    from shiftreg.api.values import Estimate


def measurements(found: Sequence[FolderMeasurement]) -> RenderableType:
    """All comparisons with one reference, and what all of them lack."""
    notes = dict.fromkeys(note for one in found for note in one.notes)
    classifier = next((one.classifier for one in found if one.classifier), "")
    facts = pairs({"classifier": classifier, "intervals": "95%, over images"})
    return Group(*map(_comparison, found), facts, *warnings(notes))


def _comparison(found: FolderMeasurement) -> RenderableType:
    one, two = found.reference, found.other
    rows = [
        ("images", str(one.images), f"{two.images}{', paired' * found.paired}"),
        ("LPIPS", "", _cell(found.lpips, spread)),
        ("style distance", "", _cell(found.style, spread)),
        ("Fréchet distance, AlexNet", "", "" if found.frechet is None else number(found.frechet)),
        ("FID", "", "" if found.fid is None else number(found.fid)),
        ("CLIP score", _cell(one.clip, spread), _cell(two.clip, spread)),
        ("nudity", _cell(one.nudity, share), _cell(two.nudity, share)),
        ("shows what is asked for", _cell(one.accuracy, share), _cell(two.accuracy, share)),
        *(
            (f"  {safe(label)}", *(_cell(side.per_label.get(label), share) for side in (one, two)))
            for label in dict.fromkeys((*one.per_label, *two.per_label))
        ),
    ]
    table = make_table("", safe(one.folder), safe(two.folder))
    for name, *cells in rows:
        if any(cells):
            table.add_row(name, *cells)
    return table


def _cell(estimate: Estimate | None, words: Callable[[Estimate], str]) -> str:
    return "" if estimate is None else words(estimate)


def spread(estimate: Estimate) -> str:
    """A value with its interval, "0.123 (0.101 to 0.142)"; of one image, none can be told."""
    if estimate.count == 1:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"
