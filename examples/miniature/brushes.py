"""Fields, strokes and colours that the manners are painted with."""

import numpy as np
from PIL import Image, ImageDraw

from subjects import FULL, SCALE, SIZE, Scene

Rng = np.random.Generator

Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
Y_FULL, X_FULL = np.mgrid[0:FULL, 0:FULL].astype(np.float32) / SCALE
# How bright each role is, for manners that keep only light and dark.
TONE = np.array([0.0, 0.58, 0.38, 0.12, 0.95, 0.75], dtype=np.float32)


def rgb(codes: str) -> np.ndarray:
    """Turns space-separated hex colours into an (n, 3) array."""
    return np.array([tuple(bytes.fromhex(code)) for code in codes.split()], dtype=np.float32)


def shrink(full: np.ndarray) -> np.ndarray:
    """Averages a FULL-sized uint8 or bool array down to SIZE; bool gives 0 to 1."""
    if full.dtype == bool:
        return shrink(full.view(np.uint8) * np.uint8(255)) / np.float32(255)
    return np.asarray(Image.fromarray(full).reduce(SCALE), dtype=np.float32)


def smooth_noise(rng: Rng, cells: int, size: int = SIZE) -> np.ndarray:
    """A smooth random field of about 0 to 1, with features of size / cells pixels."""
    grid = Image.fromarray(rng.random((cells + 1, cells + 1), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def mix(under: np.ndarray, over: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Lays a colour or image over another, where `share` (SIZE, SIZE) is large."""
    share = np.asarray(share)[..., None]
    return under + (over - under) * share


def colour_ramp(values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Maps 0..1 onto evenly spaced colours."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, stops, colours[:, c]) for c in range(3)], axis=-1)


def find_seams(labels: np.ndarray, width: int) -> np.ndarray:
    """Lines of a given width (at FULL size) where neighbouring labels differ."""
    half = width // 2
    padded = np.pad(labels, half, mode="edge")
    found = padded[2 * half :, half:-half] != padded[: -2 * half, half:-half]
    found |= padded[half:-half, 2 * half :] != padded[half:-half, : -2 * half]
    # The diagonals keep corners from looking notched.
    d = round(half * 0.7)
    inner = padded[half - d : FULL + half + d, half - d : FULL + half + d]
    found |= inner[2 * d :, 2 * d :] != inner[: -2 * d, : -2 * d]
    found |= inner[2 * d :, : -2 * d] != inner[: -2 * d, 2 * d :]
    return found


def fill_flat(colours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colours each label; (FULL, FULL, 3) of uint8."""
    return np.clip(colours, 0, 255).astype(np.uint8)[labels]


def to_tones(labels: np.ndarray) -> np.ndarray:
    """The brightness of the roles, (SIZE, SIZE) from 0 to 1."""
    return shrink((TONE * 255).astype(np.uint8)[labels]) / 255


def lay_ink(
    art: np.ndarray, labels: np.ndarray, width: int, code: str, share: np.ndarray | float
) -> np.ndarray:
    """Draws the seams of a label map in one colour over a SIZE-sized image."""
    return mix(art, rgb(code)[0], share * shrink(find_seams(labels, width)))


def trace(flow: np.ndarray, x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
    """Paths of five points that follow a direction field both ways from (x, y)."""
    middle = np.stack([x, y], axis=1)
    points = [middle]
    for way in (-1, 1):
        here = middle
        for _ in range(2):
            col, row = np.clip(here, 0, SIZE - 1).astype(int).T
            bend = flow[row, col]
            here = here + way * length / 4 * np.stack([np.cos(bend), np.sin(bend)], axis=1)
            points.insert(len(points) if way == 1 else 0, here)
    return np.stack(points, axis=1)


def draw_strokes(base: np.ndarray, paths: np.ndarray, width: int, inks: np.ndarray) -> np.ndarray:
    """Paints one stroke for each path (n, points, 2) and ink (n, 3) over a FULL-sized image."""
    image = Image.fromarray(base)
    pen = ImageDraw.Draw(image)
    lines = (paths * SCALE).reshape(len(paths), -1).tolist()
    for line, ink in zip(lines, np.clip(inks, 0, 255).astype(int).tolist(), strict=True):
        pen.line(line, fill=tuple(ink), width=width)
    return np.asarray(image)


def jittered_grid(rng: Rng, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a jittered grid over the image, in random order."""
    axis = np.arange(step / 2, SIZE + step / 2, step)
    x, y = (a.ravel() + rng.uniform(-step / 3, step / 3, a.size) for a in np.meshgrid(axis, axis))
    order = rng.permutation(x.size)
    return np.clip(x[order], 0, SIZE - 0.01), np.clip(y[order], 0, SIZE - 0.01)


def labels_at(scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return scene.labels[(y * SCALE).astype(int), (x * SCALE).astype(int)]
