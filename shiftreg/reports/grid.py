"""Curves in panels and grids of images, each as one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont


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
    """Draws panels side by side into a PNG."""
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


_GAP = 4
_FONT_SIZE = 14
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class GridRow:
    """One row: its label, and images uint8 ``(n, H, W, 3)``."""

    label: str
    images: np.ndarray


def image_grid(
    rows: Sequence[GridRow], columns: Sequence[str] = (), tile: int = 128
) -> Image.Image:
    """Lays rows of images out, labels at the left and, if given, above the columns.

    Args:
        rows: Top to bottom; shorter rows leave white.
        columns: Labels above; one may span several images when the count divides evenly.
        tile: Edge of an image in the grid, in pixels; small images are enlarged unsmoothed.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    wrapped = [_wrap(row.label, font, 170) for row in rows]
    left = max(int(font.getlength(line)) for label in wrapped for line in label) + 3 * _GAP
    top = _FONT_SIZE + 3 * _GAP if columns else _GAP
    widest = max(len(row.images) for row in rows)
    pitch = tile + _GAP
    canvas = Image.new("RGB", (left + widest * pitch, top + len(rows) * pitch), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for i, label in enumerate(columns):
        draw.text((left + i * widest * pitch // len(columns), _GAP), label, _INK, font)
    for y, (row, lines) in enumerate(zip(rows, wrapped, strict=True)):
        height = len(lines) * (_FONT_SIZE + 3)
        draw.text((_GAP, top + y * pitch + (tile - height) // 2), "\n".join(lines), _INK, font)
        for x, image in enumerate(row.images):
            enlarge = (
                Image.Resampling.NEAREST if tile >= image.shape[1] else Image.Resampling.LANCZOS
            )
            resized = Image.fromarray(image).resize((tile, tile), enlarge)
            canvas.paste(resized, (left + x * pitch, top + y * pitch))
    return canvas


def save_image(image: Image.Image, path: Path) -> None:
    """Writes a PNG whatever the path's suffix."""
    image.save(path, format="PNG")


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
