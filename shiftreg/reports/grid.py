"""Grids of images with a label for each row and column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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
