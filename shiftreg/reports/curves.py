"""Curves in panels, as one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Panel:
    """One panel: a title, and a line for each name.

    Attributes:
        lines: Name -> values, one a step.
        logarithmic: Whether the values span powers of ten.
    """

    title: str
    lines: Mapping[str, Sequence[float]]
    logarithmic: bool = False


def save_curves(panels: Sequence[Panel], x_label: str, path: Path) -> None:
    """Draws panels side by side into a PNG.

    Args:
        panels: At least one.
        x_label: What a step is.
        path: Of the PNG; any suffix.
    """
    from matplotlib.figure import Figure  # half a second that only plots should cost

    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, values in panel.lines.items():
            axes.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel(x_label, fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if panel.logarithmic:
            axes.set_yscale("log")
        else:
            # From 0, and over at least a tenth: rounding noise is no curve.
            axes.set_ylim(0, max(0.1, *(v for vs in panel.lines.values() for v in vs)) * 1.05)
    axes.legend(fontsize=8)
    figure.savefig(path, format="png", dpi=110)
