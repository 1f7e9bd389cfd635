"""Images and curves in the form that a page holds: data URIs, and points of a polyline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

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
