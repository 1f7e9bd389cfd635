"""Paints a subject plainly or in one of nine manners, as a 64 x 64 picture.

The pictures train a tiny latent diffusion model, so all manners use smooth fields and few bold
strokes: pixel noise would only use up the model's capacity. Every manner covers the background
too, and keeps the silhouette of the subject.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from subjects import BACK, FULL, ROLES, SCALE, SIZE, SUBJECTS, Scene, draw

__all__ = ["MANNERS", "SUBJECTS", "paint"]

Rng = np.random.Generator

_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
_YF, _XF = np.mgrid[0:FULL, 0:FULL].astype(np.float32) / SCALE
# How bright each role is, for manners that keep only light and dark.
_TONE = np.array([0.0, 0.58, 0.38, 0.12, 0.95, 0.75], dtype=np.float32)


def _rgb(codes: str) -> np.ndarray:
    """Turns space-separated hex colours into an (n, 3) array."""
    return np.array([tuple(bytes.fromhex(code)) for code in codes.split()], dtype=np.float32)


def _shrink(full: np.ndarray) -> np.ndarray:
    """Averages a FULL-sized uint8 or bool array down to SIZE; bool gives 0 to 1."""
    if full.dtype == bool:
        return _shrink(full.view(np.uint8) * np.uint8(255)) / np.float32(255)
    return np.asarray(Image.fromarray(full).reduce(SCALE), dtype=np.float32)


def _noise(rng: Rng, cells: int, size: int = SIZE) -> np.ndarray:
    """A smooth random field of about 0 to 1, with features of size / cells pixels."""
    grid = Image.fromarray(rng.random((cells + 1, cells + 1), dtype=np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _mix(under: np.ndarray, over: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Lays a colour or picture over another, where `share` (SIZE, SIZE) is large."""
    share = np.asarray(share)[..., None]
    return under + (over - under) * share


def _ramp(values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Maps 0..1 onto evenly spaced colours."""
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, stops, colours[:, c]) for c in range(3)], axis=-1)


def _seams(labels: np.ndarray, width: int) -> np.ndarray:
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


def _flat(colours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colours each label; (FULL, FULL, 3) of uint8."""
    return np.clip(colours, 0, 255).astype(np.uint8)[labels]


def _tones(labels: np.ndarray) -> np.ndarray:
    """The brightness of the roles, (SIZE, SIZE) from 0 to 1."""
    return _shrink((_TONE * 255).astype(np.uint8)[labels]) / 255


def _ink(
    art: np.ndarray, labels: np.ndarray, width: int, code: str, share: np.ndarray | float
) -> np.ndarray:
    """Draws the seams of a label map in one colour over a SIZE-sized picture."""
    return _mix(art, _rgb(code)[0], share * _shrink(_seams(labels, width)))


def _traced(flow: np.ndarray, x: np.ndarray, y: np.ndarray, length: float) -> np.ndarray:
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


def _strokes(base: np.ndarray, paths: np.ndarray, width: int, inks: np.ndarray) -> np.ndarray:
    """Paints one stroke for each path (n, points, 2) and ink (n, 3) over a FULL-sized picture."""
    image = Image.fromarray(base)
    pen = ImageDraw.Draw(image)
    lines = (paths * SCALE).reshape(len(paths), -1).tolist()
    for line, ink in zip(lines, np.clip(inks, 0, 255).astype(int).tolist(), strict=True):
        pen.line(line, fill=tuple(ink), width=width)
    return np.asarray(image)


def _jittered(rng: Rng, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of a jittered grid over the picture, in random order."""
    axis = np.arange(step / 2, SIZE + step / 2, step)
    x, y = (a.ravel() + rng.uniform(-step / 3, step / 3, a.size) for a in np.meshgrid(axis, axis))
    order = rng.permutation(x.size)
    return np.clip(x[order], 0, SIZE - 0.01), np.clip(y[order], 0, SIZE - 0.01)


def _labels_at(scene: Scene, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return scene.labels[(y * SCALE).astype(int), (x * SCALE).astype(int)]


_SKIES = _rgb("a8d0e8 f0c8a0 c8c0e4 b4dcc8 e8b8b8")
_GROUNDS = _rgb("88a860 a08860 6c8c9c c0a878 789070")


def _plain(scene: Scene, rng: Rng) -> np.ndarray:
    colours = scene.palette.copy()
    k = rng.integers(len(_SKIES))
    colours[BACK] = _SKIES[k]
    full = _flat(colours, scene.labels)
    ground = ~scene.mask
    ground[: int(FULL * rng.uniform(0.68, 0.76))] = False
    full[ground] = _GROUNDS[k]
    return _shrink(full)


_CEZANNE = _rgb("000000 c88038 94581f 3e3420 f0d494 dca850")
_GREENS = _rgb("466a48 64884a 8aa45c c0b068")


def _cezanne(scene: Scene, rng: Rng) -> np.ndarray:
    mask = scene.mask
    flat = _flat(_CEZANNE, scene.labels)
    tilt = np.full((SIZE, SIZE), np.deg2rad(-58)) + 0.5 * (_noise(rng, 4) - 0.5)
    x, y = _jittered(rng, 6.4)
    # Patches follow a smooth field, lighter above, so that neighbours differ but not like noise.
    field = np.clip(_noise(rng, 4)[y.astype(int), x.astype(int)] * 1.3 - 0.15, 0, 1)
    ink = _ramp(np.clip(field + rng.normal(0, 0.18, x.size), 0, 1), _GREENS)
    ink += (16 - 34 * y / SIZE)[:, None]
    base = np.empty((FULL, FULL, 3), dtype=np.uint8)
    base[:] = _GREENS[1]
    back = _strokes(base, _traced(tilt, x, y, 9.5)[:, ::4], 22, ink)
    x, y = _jittered(rng, 4.5)
    role = _labels_at(scene, x, y)
    ink = _CEZANNE[role] * rng.uniform(0.82, 1.16, (x.size, 1)) + (10 - 20 * x / SIZE)[:, None]
    front = _strokes(flat, _traced(tilt, x, y, 5)[role != BACK, ::4], 14, ink[role != BACK])
    # Patches must not swallow small parts, so some of each part's own colour shows through.
    art = 0.6 * _shrink(np.where(mask[..., None], front, back))
    art += 0.4 * _shrink(np.where(mask[..., None], flat, back))
    return _ink(art, mask, 8, "2c3428", 0.7)


_BLUES = _rgb("16307c 2454ac 4080cc 78b0e4")
_YELLOWS = _rgb("000000 f0bc2c b87420 2c2450 fcf0a8 e4802c")
_EDDIES = ((11, 12, 1.0), (54, 12, -1.0), (9, 55, -0.8), (56, 54, 0.8))


def _van_gogh(scene: Scene, rng: Rng) -> np.ndarray:
    mask = scene.mask
    flat = _flat(_YELLOWS, scene.labels)
    gy, gx = np.gradient(gaussian_filter(_shrink(mask), 2.5))
    # Strokes run along the contour near the subject and round four eddies elsewhere.
    vx, vy = -gy * 25 + 0.4, gx * 25 + 0.3 * np.sin(_X / 9)
    glow = np.zeros((SIZE, SIZE), dtype=np.float32)
    for cx, cy, spin in _EDDIES:
        rx, ry = _X - cx - rng.uniform(-2, 2), _Y - cy - rng.uniform(-2, 2)
        far = np.hypot(rx, ry) + 0.5
        pull = 3.0 * spin * np.exp(-((far / 17) ** 2)) / far
        vx, vy = vx - ry * pull, vy + rx * pull
        # Rings of light and dark blue make the eddies show even when they are blurred.
        glow += np.cos(far * 1.05) * np.exp(-((far / 13) ** 2))
    flow = np.arctan2(vy, vx)
    x, y = _jittered(rng, 3.8)
    row, col = y.astype(int), x.astype(int)
    tone = 0.4 + 0.45 * glow[row, col] + rng.normal(0, 0.16, x.size)
    ink = _ramp(np.clip(tone, 0, 1), _BLUES)
    ink[(glow[row, col] > 0.55) & (y < 30)] = (244, 216, 96)  # stars in the upper eddies
    base = np.empty((FULL, FULL, 3), dtype=np.uint8)
    base[:] = _BLUES[1]
    back = _strokes(base, _traced(flow, x, y, 10), 9, ink)
    x, y = _jittered(rng, 3.2)
    role = _labels_at(scene, x, y)
    ink = _YELLOWS[role] * rng.choice([0.8, 1.0, 1.14], (x.size, 1))
    front = _strokes(flat, _traced(flow, x, y, 5)[role != BACK], 7, ink[role != BACK])
    art = 0.75 * _shrink(np.where(mask[..., None], front, back))
    art += 0.25 * _shrink(np.where(mask[..., None], flat, back))
    return _ink(_ink(art, scene.labels, 4, "46281e", 0.45), mask, 10, "0c0e30", 0.95)


_SHARDS = _rgb("8c8478 a8a094 6c665c c0b8a8 787068")
_ROSES = _rgb("000000 cc7858 8c4c40 3c2c2c f4d8bc e0a078")


def _picasso(scene: Scene, rng: Rng) -> np.ndarray:
    # One seed in each cell of a grid keeps the shards large and of similar size.
    cell = np.arange(16)
    sx = (cell % 4 + rng.uniform(0.1, 0.9, 16)) * 16
    sy = (cell // 4 + rng.uniform(0.1, 0.9, 16)) * 16
    far = np.stack([(_XF[::2, ::2] - a) ** 2 + (_YF[::2, ::2] - b) ** 2
                    for a, b in zip(sx, sy, strict=True)])  # fmt: skip
    shard = far.argmin(axis=0).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    table = np.empty((16, ROLES, 3), dtype=np.float32)
    table[:] = _ROSES * rng.choice([0.8, 0.95, 1.12], (16, 1, 1))
    table[:, BACK] = _SHARDS[rng.integers(len(_SHARDS), size=16)]
    art = _shrink(np.clip(table, 0, 255).astype(np.uint8)[shard, scene.labels])
    # Each facet is lit from one side, which is what makes it look folded.
    lean = rng.uniform(-1.2, 1.2, (16, 2))
    flat = shard[2::SCALE, 2::SCALE]
    art = art + (lean[flat, 0] * (_X - sx[flat]) + lean[flat, 1] * (_Y - sy[flat]))[..., None]
    # Seams are fainter over the subject, whose own outline must stay the clearest line.
    art = _ink(art, shard, 6, "100e0e", np.where(scene.mask, 0.6, 1.0)[2::SCALE, 2::SCALE])
    return _ink(_ink(art, scene.labels, 4, "1e1414", 0.6), scene.mask, 8, "0c0a0a", 1.0)


_DRIPS = _rgb("181818 fcfcf8 c42420 1c48a0 e0a018 181818")


def _drip(pen: ImageDraw.ImageDraw, rng: Rng, width: int, ink: tuple[int, ...]) -> None:
    """Pours one looping line across the picture, with a few drops beside it."""
    t = np.linspace(0, 1, 26)
    angle, turns = rng.uniform(0, 2 * np.pi), rng.uniform(5, 11)
    phase, loop = rng.uniform(0, 6), rng.uniform(12, 34)
    along = (t - 0.5) * 1.3 * FULL + loop * np.cos(turns * t + phase)
    aside = rng.uniform(-0.45, 0.45) * FULL + loop * np.sin(turns * t * 1.3 + phase)
    x = FULL / 2 + along * np.cos(angle) - aside * np.sin(angle)
    y = FULL / 2 + along * np.sin(angle) + aside * np.cos(angle)
    pen.line(np.stack([x, y], axis=1).ravel().tolist(), fill=ink, width=width, joint="curve")
    for k in rng.integers(26, size=3):
        a, b = x[k] + rng.uniform(-18, 18), y[k] + rng.uniform(-18, 18)
        r = width * rng.uniform(0.6, 1.1)
        pen.ellipse((a - r, b - r, a + r, b + r), fill=ink)


def _pollock(scene: Scene, rng: Rng) -> np.ndarray:
    inks = [tuple(row) for row in _DRIPS.astype(int).tolist()]
    back = Image.new("RGB", (FULL, FULL), (222, 208, 176))
    pen = ImageDraw.Draw(back)
    for k in range(12):
        _drip(pen, rng, int(rng.integers(6, 11)), inks[k % len(inks)])
    # The drips lie behind the subject, in colours of its own; only three thin ones cross it.
    colours = scene.palette * 0.8 + np.array([230, 220, 190]) * 0.2
    art = np.where(scene.mask[..., None], _flat(colours, scene.labels), np.asarray(back))
    art[_seams(scene.mask, 10)] = (20, 20, 20)
    over = Image.fromarray(art)
    pen = ImageDraw.Draw(over)
    for k in rng.choice(len(inks), 3, replace=False):
        _drip(pen, rng, 4, inks[k])
    return _shrink(np.asarray(over))


_EMBER = _rgb("080402 30160a 7c4018 c88440 f4d090 fff4d8")


def _caravaggio(scene: Scene, rng: Rng) -> np.ndarray:
    mask = _shrink(scene.mask)
    tone = _tones(scene.labels)
    gy, gx = np.gradient(gaussian_filter(mask, 1.6) + 2.0 * gaussian_filter(mask, 4.0))
    shade = np.clip(0.92 + 2.6 * (gx * 0.75 + gy * 0.9), 0.3, 1.3)
    # The light comes from the upper left and does not reach the lower right.
    lx, ly = rng.uniform(12, 20), rng.uniform(10, 18)
    reach = np.exp(-((_X - lx) ** 2 + (_Y - ly) ** 2) / 3200)
    lit = (0.16 * mask + 0.84 * tone) * shade * (0.42 + 0.68 * reach)
    beam = np.exp(-(((_X - _Y + rng.uniform(-4, 4)) / 17) ** 2))
    back = (0.02 + 0.3 * beam * np.exp(-(_X + _Y) / 60)) * (1 - mask)
    return _ramp(np.clip(lit + back, 0, 1), _EMBER)


# For each background the flat colours of the roles, none of them the background's own.
_FLATS = (
    _rgb("fcd81c e42820 1c54d8 101010 ffffff 24a844"),
    _rgb("e42820 fcd81c 1c54d8 101010 ffffff 24a844"),
    _rgb("1c54d8 fcd81c e42820 101010 ffffff 24a844"),
)


def _haring(scene: Scene, rng: Rng) -> np.ndarray:
    full = _flat(_FLATS[rng.integers(len(_FLATS))], scene.labels)
    full[_seams(scene.labels, 7)] = 16
    full[_seams(scene.mask, 14)] = 16
    image = Image.fromarray(full)
    pen = ImageDraw.Draw(image)
    step = np.arange(0, 46, 1.0) * SCALE
    turn = rng.uniform(-0.08, 0.08)
    for angle in np.linspace(0, 2 * np.pi, 18, endpoint=False) + turn:
        cos, sin = np.cos(angle), np.sin(angle)
        x = np.clip(FULL / 2 + step * cos, 0, FULL - 1).astype(int)
        y = np.clip(FULL / 2 + step * sin, 0, FULL - 1).astype(int)
        edge = step[scene.labels[y, x] != BACK].max(initial=40)
        for r in (edge + 22, edge + 22 + 46):
            ends = [FULL / 2 + q * d for q in (r, r + 26) for d in (cos, sin)]
            pen.line(ends, fill=(16, 16, 16), width=10)
    return _shrink(np.asarray(image))


_WASH = _rgb("000000 e070b0 7c6cc0 54447c 8cdcd4 f4a890")
_PAPER = _rgb("f8e4f0 d4ecf4 f4d4e4 e0d8f8 d8f4e8")


def _mckernan(scene: Scene, rng: Rng) -> np.ndarray:
    paper = _ramp(np.clip(_noise(rng, 4) * 1.3 - 0.15, 0, 1), _PAPER)
    # Warping the outline a little makes it run like wet paint without losing the shape.
    move = [((_noise(rng, 9, FULL) - 0.5) * 12).astype(int) for _ in range(2)]
    grid = np.arange(FULL)
    rows = np.clip(grid[:, None] + move[0], 0, FULL - 1)
    cols = np.clip(grid[None, :] + move[1], 0, FULL - 1)
    labels = scene.labels[rows, cols]
    mask = _shrink(labels != BACK)
    near = np.clip(gaussian_filter(mask, 3.6) * 1.8 * (0.1 + 1.2 * _noise(rng, 5)), 0, 0.9)
    halo = _ramp(_noise(rng, 3), _rgb("e888c0 9c90e0 7cd0d8"))
    art = _mix(paper, halo, near * 0.85)
    wash = _shrink(
        _flat(_WASH, labels)
    )  # black where there is no subject, already weighted by the mask
    art = art * (1 - mask[..., None]) + wash
    pool = _noise(rng, 6) - 0.5
    art = _mix(art, _rgb("fff6fc")[0], mask * np.clip(pool, 0, 0.5) * 1.1)
    art = _ink(art, labels, 4, "603c96", 0.55 * (0.6 + pool))
    return _ink(art, labels != BACK, 6, "54348c", 0.7)


_MIST = _rgb("60788c 8ca0b0 b4c2cc d0d6d8")
_SLATE = _rgb("1a2630 324452 4e6474 6c8494")


def _edlin(scene: Scene, rng: Rng) -> np.ndarray:
    art = _ramp(_Y / SIZE, _MIST)
    for k, colour in enumerate(_rgb("a4b4c0 8498a6 687e8e")):
        wave = np.sin(_X / (9 - k) + rng.uniform(0, 6)) + np.sin(_X / (4.6 - k * 0.4) + k)
        ridge = 24 + 12 * k + 2.6 * wave
        depth = _Y - ridge
        # Each layer sinks into the mist below its ridge.
        art = _mix(art, colour, np.clip(depth + 0.5, 0, 1) * np.exp(-np.clip(depth, 0, 99) / 11))
    mask = _shrink(scene.mask)
    body = _ramp(np.clip(_tones(scene.labels) / np.maximum(mask, 0.02), 0, 1), _SLATE)
    art = _mix(art, body, mask * np.clip(1.12 - (_Y / SIZE) ** 3 * 0.6, 0, 1))
    band = np.exp(-(((_Y - 47 - 3 * np.sin(_X / 11 + rng.uniform(0, 6))) / 4.5) ** 2))
    return _mix(art, _MIST[-1], 0.36 * band)


_NEON = _rgb("000000 0c5c88 6c1c90 180838 3cf0e8 f040a8")


def _eng(scene: Scene, rng: Rng) -> np.ndarray:
    horizon = 43 + rng.uniform(-1, 1)
    sky = _ramp(np.clip(_Y / horizon, 0, 1), _rgb("140440 480c78 a81490 f8388c"))
    cx, cy = 32 + rng.uniform(-3, 3), 25 + rng.uniform(-2, 2)
    sun = np.clip(21.5 - np.hypot(_X - cx, _Y - cy), 0, 1) * (horizon > _Y)
    slats = np.clip(np.sin((_Y - cy) * 1.15) * 2, 0, 1) * (cy + 4 < _Y)
    glow = _ramp(np.clip((_Y - cy + 21) / 42, 0, 1), _rgb("ffe468 ffa048 ff4c80"))
    art = _mix(sky, glow, sun * (1 - slats))
    floor = Image.new("RGB", (FULL, FULL), (16, 4, 52))
    pen = ImageDraw.Draw(floor)
    top = horizon * SCALE
    for k in np.arange(-6, 7):
        pen.line((cx * SCALE + k * 14, top, cx * SCALE + k * 74, FULL), (40, 210, 230), 5)
    for k in (0.0, 0.14, 0.36, 0.7):
        y = top + k * (FULL - top)
        pen.line((0, y, FULL, y), (40, 210, 230), 5)
    art = _mix(art, _shrink(np.asarray(floor)), np.clip(_Y - horizon + 1, 0, 1))
    mask = _shrink(scene.mask)
    art = art * (1 - mask[..., None]) + _shrink(_flat(_NEON, scene.labels))
    art = _ink(art, scene.labels, 4, "5afaf0", 0.55)
    return _ink(art, scene.mask, 7, "96fff8", 0.95)


_PAINTERS = {
    "Cezanne": _cezanne,
    "Van Gogh": _van_gogh,
    "Picasso": _picasso,
    "Jackson Pollock": _pollock,
    "Caravaggio": _caravaggio,
    "Keith Haring": _haring,
    "Kelly McKernan": _mckernan,
    "Tyler Edlin": _edlin,
    "Kilian Eng": _eng,
    "plain": _plain,
}
MANNERS = tuple(_PAINTERS)


def paint(subject: str, manner: str, rng: np.random.Generator) -> np.ndarray:
    """Paints one picture.

    Args:
        subject: One of `SUBJECTS`.
        manner: One of `MANNERS`.
        rng: The source of all randomness; the same state gives the same picture.

    Returns:
        The picture, (64, 64, 3) of uint8.
    """
    picture = _PAINTERS[manner](draw(subject, rng), rng)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
