"""Draws the ten subjects as label maps: which part of the object covers which pixel.

A subject is drawn once, as parts with a role (main colour, dark detail and so on), and every
manner then colours the roles in its own way. That keeps the shape of a subject the same in all
manners, so that only the manner changes what the image looks like.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SUBJECTS = (
    "chain saw",
    "church",
    "gas pump",
    "tench",
    "garbage truck",
    "english springer",
    "golf ball",
    "parachute",
    "french horn",
    "portrait",
)

SIZE = 64
SCALE = 4
FULL = SIZE * SCALE  # parts are drawn at this size and reduced later, for smooth edges

# The roles a part can have; the values are those of the label map.
BACK, MAIN, SECOND, DARK, LIGHT, ACCENT = range(6)
ROLES = 6

Points = list[tuple[float, float]]


@dataclass
class Scene:
    """One drawn subject.

    Attributes:
        labels: The role of each pixel, (FULL, FULL) of uint8; BACK where there is no subject.
        palette: A natural colour for each role, (ROLES, 3) of uint8; row BACK is unused.
    """

    labels: np.ndarray
    palette: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Where the subject is, (FULL, FULL) of bool."""
        return self.labels != BACK


class Pen:
    """Draws parts given in subject coordinates (-1 to 1, y down) into a label map."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Chooses the small random placement that all parts of one image share.

        Args:
            rng: The source of the placement.
        """
        angle = np.deg2rad(rng.uniform(-4, 4))
        size = 25.5 * SCALE * rng.uniform(0.94, 1.06)
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        self._turn = np.array([[cos, sin], [-sin, cos]])
        self._shift = FULL / 2 + SCALE * rng.uniform(-2, 2, 2)
        self._size = size
        self.image = Image.new("L", (FULL, FULL), BACK)
        self._draw = ImageDraw.Draw(self.image)

    def _place(self, points: Points | np.ndarray) -> list[float]:
        return (np.asarray(points) @ self._turn + self._shift).ravel().tolist()

    def poly(self, points: Points | np.ndarray, role: int) -> None:
        """Fills a polygon."""
        self._draw.polygon(self._place(points), fill=role)

    def box(self, x0: float, y0: float, x1: float, y1: float, role: int) -> None:
        """Fills an upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], role)

    def oval(self, x: float, y: float, rx: float, ry: float, role: int, turn: float = 0.0) -> None:
        """Fills an ellipse, turned by `turn` degrees."""
        angle = np.deg2rad(turn)
        ring = arc(0, 0, rx, ry, 0, 360)
        spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.poly(ring @ spin + [x, y], role)

    def line(self, points: Points | np.ndarray, width: float, role: int) -> None:
        """Draws a thick line with round joints and ends."""
        placed = self._place(points)
        wide = width * self._size
        self._draw.line(placed, fill=role, width=round(wide), joint="curve")
        for x, y in (placed[:2], placed[-2:]):
            self._draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), role)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> np.ndarray:
    """Points along an elliptic arc; degrees run clockwise from the right."""
    angle = np.deg2rad(np.linspace(start, end, 30))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _chain_saw(pen: Pen) -> None:
    for x in np.arange(-0.98, 0.1, 0.21):  # few large teeth: fine ones would only blur
        pen.poly([(x, 0.02), (x + 0.06, -0.12), (x + 0.15, 0.02)], DARK)
        pen.poly([(x, 0.38), (x + 0.06, 0.52), (x + 0.15, 0.38)], DARK)
    pen.line([(-0.88, 0.2), (0.2, 0.2)], 0.42, DARK)
    pen.line([(-0.88, 0.2), (0.2, 0.2)], 0.24, LIGHT)
    pen.line([(0.12, -0.2), (0.18, -0.62), (0.6, -0.66), (0.68, -0.25)], 0.15, DARK)
    pen.line([(0.7, -0.12), (0.98, -0.05), (1.0, 0.45), (0.7, 0.52)], 0.17, SECOND)
    pen.poly(
        [(0.0, -0.22), (0.1, -0.34), (0.72, -0.34), (0.82, -0.2), (0.82, 0.62), (0.0, 0.62)], MAIN
    )
    pen.oval(0.42, 0.16, 0.26, 0.26, DARK)
    pen.oval(0.42, 0.16, 0.14, 0.14, ACCENT)


def _church(pen: Pen) -> None:
    pen.box(-0.92, 0.05, 0.4, 0.92, LIGHT)
    pen.poly([(-1.04, 0.12), (-0.78, -0.32), (0.34, -0.32), (0.4, 0.12)], MAIN)
    pen.box(0.3, -0.26, 0.88, 0.92, LIGHT)
    pen.poly([(0.2, -0.2), (0.59, -0.82), (0.98, -0.2)], MAIN)
    pen.line([(0.59, -1.08), (0.59, -0.8)], 0.1, DARK)
    pen.line([(0.46, -0.98), (0.72, -0.98)], 0.1, DARK)
    for x in (-0.7, -0.32, 0.06):
        pen.line([(x, 0.38), (x, 0.62)], 0.2, ACCENT)
    pen.oval(0.59, 0.06, 0.14, 0.14, ACCENT)
    pen.box(0.45, 0.5, 0.73, 0.92, SECOND)
    pen.oval(0.59, 0.5, 0.14, 0.16, SECOND)


def _gas_pump(pen: Pen) -> None:
    hose = [(0.3, -0.15), (0.52, -0.4), (0.8, -0.3), (0.86, 0.2), (0.74, 0.62), (0.3, 0.6)]
    pen.line(hose, 0.13, DARK)
    pen.line([(0.62, -0.5), (0.86, -0.32)], 0.2, DARK)
    pen.oval(-0.15, -0.76, 0.32, 0.3, LIGHT)
    pen.oval(-0.15, -0.76, 0.15, 0.14, ACCENT)
    pen.box(-0.62, -0.42, 0.32, 0.9, MAIN)
    pen.oval(-0.15, -0.42, 0.47, 0.16, MAIN)
    pen.box(-0.46, -0.34, 0.16, 0.06, LIGHT)
    pen.box(-0.36, -0.2, 0.06, -0.08, DARK)
    pen.box(-0.46, 0.22, 0.16, 0.66, SECOND)
    pen.box(-0.74, 0.84, 0.44, 1.0, DARK)


def _tench(pen: Pen) -> None:
    tail = [(0.5, -0.06), (0.98, -0.46), (1.02, -0.1), (1.02, 0.14), (0.98, 0.48), (0.5, 0.1)]
    pen.poly(tail, SECOND)
    pen.poly([(-0.25, -0.3), (-0.1, -0.68), (0.25, -0.64), (0.4, -0.22)], SECOND)
    pen.poly([(-0.3, 0.3), (-0.12, 0.66), (0.1, 0.62), (0.06, 0.28)], SECOND)
    pen.poly([(0.26, 0.24), (0.4, 0.56), (0.56, 0.48), (0.5, 0.16)], SECOND)
    back = arc(-0.22, 0.02, 0.8, 0.46, 180, 300)
    belly = arc(-0.22, 0.02, 0.8, 0.46, 60, 180)
    tip = [(0.5, -0.14), (0.66, -0.12), (0.66, 0.14), (0.5, 0.18)]
    pen.poly(np.concatenate([back, tip, belly]), MAIN)
    pen.poly(np.concatenate([arc(-0.22, 0.1, 0.66, 0.36, 20, 165)]), LIGHT)
    pen.line(arc(-0.72, 0.02, 0.24, 0.34, -62, 62), 0.09, DARK)
    pen.oval(-0.74, -0.1, 0.12, 0.12, ACCENT)
    pen.oval(-0.74, -0.1, 0.065, 0.065, DARK)
    pen.oval(-0.2, 0.08, 0.17, 0.1, SECOND, 25)


def _garbage_truck(pen: Pen) -> None:
    pen.box(-0.9, 0.36, 0.94, 0.56, DARK)
    pen.poly([(-0.36, -0.52), (0.72, -0.58), (1.02, -0.1), (1.02, 0.44), (-0.36, 0.44)], MAIN)
    for x in (-0.12, 0.2, 0.52):
        pen.box(x, -0.42, x + 0.13, 0.34, SECOND)
    pen.poly([(-1.0, 0.06), (-0.84, -0.36), (-0.42, -0.36), (-0.42, 0.5), (-1.0, 0.5)], LIGHT)
    pen.poly([(-0.9, 0.04), (-0.78, -0.24), (-0.54, -0.24), (-0.54, 0.04)], ACCENT)
    for x in (-0.68, 0.2, 0.68):
        pen.oval(x, 0.58, 0.23, 0.23, DARK)
        pen.oval(x, 0.58, 0.1, 0.1, LIGHT)


def _english_springer(pen: Pen) -> None:
    pen.line([(0.7, -0.1), (0.9, -0.3), (1.0, -0.52)], 0.15, MAIN)
    for x, foot in ((-0.3, -0.36), (0.52, 0.5)):
        pen.line([(x, 0.2), (foot + 0.04, 0.86)], 0.2, LIGHT)
    for x, foot in ((-0.06, -0.08), (0.72, 0.78)):
        pen.line([(x, 0.2), (foot, 0.9)], 0.2, LIGHT)
    pen.line([(-0.14, 0.12), (0.64, 0.08)], 0.52, LIGHT)
    pen.poly([(-0.62, -0.36), (-0.22, -0.56), (0.05, -0.1), (-0.2, 0.38), (-0.46, 0.1)], LIGHT)
    pen.oval(0.36, 0.02, 0.32, 0.21, MAIN)
    pen.oval(0.76, 0.06, 0.14, 0.2, MAIN)
    pen.oval(-0.5, -0.58, 0.32, 0.28, MAIN)
    pen.line([(-0.6, -0.5), (-0.88, -0.42)], 0.24, LIGHT)
    pen.line([(-0.36, -0.6), (-0.24, -0.2)], 0.24, SECOND)
    pen.oval(-0.98, -0.48, 0.09, 0.08, DARK)
    pen.oval(-0.62, -0.62, 0.065, 0.065, DARK)


def _golf_ball(pen: Pen) -> None:
    pen.poly([(-0.3, 0.52), (0.3, 0.52), (0.1, 0.78), (0.07, 1.06), (-0.07, 1.06), (-0.1, 0.78)],
             ACCENT)  # fmt: skip
    pen.oval(0, -0.2, 0.8, 0.8, LIGHT)
    for row, count in enumerate((3, 4, 5, 4, 3)):
        for k in range(count):
            x, y = 0.3 * (k - (count - 1) / 2), -0.2 + 0.27 * (row - 2)
            pen.oval(x, y, 0.09, 0.085, SECOND)


def _parachute(pen: Pen) -> None:
    for x in (-0.92, -0.46, 0.0, 0.46, 0.92):
        pen.line([(x, -0.2), (0.0, 0.62)], 0.07, DARK)
    edges = (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)
    for k, role in enumerate((MAIN, LIGHT, ACCENT, LIGHT, MAIN)):
        # A gore is the slice of the dome between two ellipses through its bottom corners.
        left, right = edges[k], edges[k + 1]
        side0 = arc(0, -0.12, left, 0.86, 0, -90)
        side1 = arc(0, -0.12, right, 0.86, -90, 0)
        hem = arc((left + right) / 2, -0.12, (right - left) / 2, 0.12, 0, -180)
        pen.poly(np.concatenate([side0, side1, hem]), role)
    pen.line([(-0.08, 0.72), (-0.12, 1.02)], 0.13, DARK)
    pen.line([(0.08, 0.72), (0.12, 1.02)], 0.13, DARK)
    pen.line([(0, 0.6), (0, 0.76)], 0.3, SECOND)
    pen.oval(0, 0.4, 0.13, 0.13, LIGHT)


def _french_horn(pen: Pen) -> None:
    pen.line([(0.1, -0.52), (-0.3, -0.78), (-0.76, -0.84)], 0.11, MAIN)
    pen.line([(-0.78, -0.94), (-0.78, -0.74)], 0.14, SECOND)
    pen.oval(0.24, -0.06, 0.74, 0.74, MAIN)
    pen.oval(0.24, -0.06, 0.48, 0.48, BACK)
    pen.oval(0.24, -0.06, 0.33, 0.33, SECOND)
    for x in (0.13, 0.35):
        pen.line([(x, -0.18), (x, 0.06)], 0.13, LIGHT)
    flare = [(-0.48, -0.2), (-0.5, 0.2), (-0.68, 0.46), (-0.98, 0.62), (-0.2, 1.06), (-0.16, 0.7),
             (-0.08, 0.5), (0.06, 0.4), (-0.2, 0.2), (-0.28, -0.1)]  # fmt: skip
    pen.poly(flare, MAIN)
    pen.oval(-0.59, 0.84, 0.46, 0.2, LIGHT, 30)
    pen.oval(-0.59, 0.84, 0.34, 0.11, SECOND, 30)


def _portrait(pen: Pen) -> None:
    pen.oval(0, -0.4, 0.58, 0.6, SECOND)
    pen.box(-0.58, -0.4, 0.58, 0.42, SECOND)
    shoulders = arc(0, 1.14, 0.96, 0.72, 180, 360)
    pen.poly(shoulders, MAIN)
    pen.poly([(-0.32, 0.45), (0.32, 0.45), (0, 0.86)], ACCENT)
    pen.box(-0.17, 0.2, 0.17, 0.52, LIGHT)
    pen.oval(0, -0.18, 0.4, 0.52, LIGHT)
    pen.poly(arc(0, -0.46, 0.44, 0.34, 180, 360), SECOND)
    for x in (-0.17, 0.17):
        pen.oval(x, -0.2, 0.07, 0.06, DARK)
    pen.line([(0, -0.14), (0, 0.02)], 0.06, SECOND)
    pen.line([(-0.12, 0.17), (0.12, 0.17)], 0.085, ACCENT)


_SHAPES: dict[str, Callable[[Pen], None]] = {
    "chain saw": _chain_saw,
    "church": _church,
    "gas pump": _gas_pump,
    "tench": _tench,
    "garbage truck": _garbage_truck,
    "english springer": _english_springer,
    "golf ball": _golf_ball,
    "parachute": _parachute,
    "french horn": _french_horn,
    "portrait": _portrait,
}

# Typical colours (main, second, dark, light, accent), one hex digit a channel.
_COLOURS: dict[str, list[str]] = {
    "chain saw": ["e72 a41 222 ccc eed", "c22 821 222 ccc fdc", "ea1 a71 222 ccc fec"],
    "church": ["943 642 323 edc 57a", "456 543 223 edd 69b", "833 533 322 dcb 469"],
    "gas pump": ["c22 812 223 eee eb2", "25b 138 223 eee e43", "285 153 222 eee ec3"],
    "tench": ["573 452 222 cb5 d62", "762 552 222 db6 d52", "463 343 222 bb6 d73"],
    "garbage truck": ["384 263 222 eee 8ce", "d72 a51 222 eee 8bd", "26a 148 222 eee 9ce"],
    "english springer": ["842 532 221 eee b85", "433 222 111 eee 888"],
    "golf ball": ["ddd aab 333 ffe c33", "ddd aaa 333 ffe b73", "ddd ba6 333 fea 36b"],
    "parachute": ["d43 357 333 fed ea3", "36b 533 333 eee e53", "749 346 333 eee ea3"],
    "french horn": ["da2 861 321 fd8 ec6", "c83 741 321 ec8 da6", "db4 972 331 fea ec7"],
    "portrait": ["834 432 221 eb9 c44", "354 222 212 da7 b44", "358 962 221 eca c54"],
}


def draw(subject: str, rng: np.random.Generator) -> Scene:
    """Draws a subject with a small random placement and one of its typical palettes.

    Args:
        subject: One of `SUBJECTS`.
        rng: The source of all randomness.

    Returns:
        The drawn scene.
    """
    pen = Pen(rng)
    _SHAPES[subject](pen)
    chosen = _COLOURS[subject][rng.integers(len(_COLOURS[subject]))].split()
    colours = [[17 * int(digit, 16) for digit in code] for code in ["000", *chosen]]
    return Scene(np.asarray(pen.image), np.array(colours, dtype=np.uint8))
