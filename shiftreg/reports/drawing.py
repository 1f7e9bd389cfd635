"""Images and curves: as a page holds them (data URIs, points of a polyline), and as files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LONGEST_SIDE = 256
"""Larger images are reduced: a page of a hundred full-size ones could not be sent."""
SMALL = 128
"""Images up to this size are enlarged without smoothing."""

MOST_POINTS = 300
LOGARITHMIC_FROM = 100.0
CURVE_LEFT, CURVE_RIGHT = 66, 312
CURVE_TOP, CURVE_BOTTOM = 12, 112


@dataclass(frozen=True)
class EmbeddedImage:
    """An image inside the page.

    Attributes:
        alt: What it shows, as a phrase.
        uri: A PNG as ``data:`` address.
    """

    alt: str
    uri: str
    width: int
    height: int

    @property
    def is_small(self) -> bool:
        """Whether it is enlarged, so that its pixels should stay sharp."""
        return self.width <= SMALL


def embed_image(image: np.ndarray, alt: str, longest: int = LONGEST_SIDE) -> EmbeddedImage:
    """Puts an image into a ``data:`` address.

    Args:
        image: uint8 ``(H, W, 3)``.
        alt: What it shows, as a phrase.
        longest: Longest side on the page; larger ones are reduced.
    """
    drawn = Image.fromarray(image)
    drawn.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    drawn.save(file, "PNG", optimize=True)
    content = base64.b64encode(file.getvalue()).decode()
    return EmbeddedImage(alt, f"data:image/png;base64,{content}", drawn.width, drawn.height)


@dataclass(frozen=True)
class Curve:
    """One value over the steps of a training, ready to be drawn.

    Attributes:
        points: Of the polyline, ``"x,y x,y ..."``.
        top: What its upper end stands for.
        bottom: What its lower end stands for; "" for a constant, which lies at the upper one.
        logarithmic: Whether it spans powers of ten.
        description: The curve as a sentence.
    """

    name: str
    points: str
    top: str
    bottom: str
    start: int
    end: int
    logarithmic: bool
    description: str


def curve(name: str, history: Sequence[tuple[int, float]]) -> Curve | None:
    """Scales values of a training to the box that the page draws curves in.

    Args:
        history: ``(step, value)``, in order; values that are not finite are left out.

    Returns:
        The curve, or None if fewer than two values make no line.
    """
    known = [(step, value) for step, value in history if math.isfinite(value)]
    if len(known) < 2:
        return None
    steps, values = zip(*known, strict=True)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOGARITHMIC_FROM
    kept = _thinned(known)
    xs = _scaled([step for step, _ in kept], steps[0], steps[-1], CURVE_LEFT, CURVE_RIGHT)
    scale: Callable[[float], float] = math.log if logarithmic else float
    heights = [scale(value) for _, value in kept]
    ys = _scaled(heights, scale(low), scale(high), CURVE_BOTTOM, CURVE_TOP)
    return Curve(
        name=name.replace("_", " "),
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True)),
        top=f"{high:.3g}",
        bottom=f"{low:.3g}" if low < high else "",
        start=steps[0],
        end=steps[-1],
        logarithmic=logarithmic,
        description=(
            f"{name.replace('_', ' ')} over steps {steps[0]} to {steps[-1]}: "
            f"from {values[0]:.3g} to {values[-1]:.3g}, between {low:.3g} and {high:.3g}"
        ),
    )


def _thinned(history: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most some hundred points, the last one among them."""
    stride = math.ceil(len(history) / MOST_POINTS)
    kept = history[::stride]
    return kept if kept[-1] == history[-1] else [*kept, history[-1]]


def _scaled(
    values: Sequence[float], low: float, high: float, start: float, end: float
) -> list[float]:
    if low == high:
        return [end for _ in values]
    return [start + (value - low) / (high - low) * (end - start) for value in values]


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
