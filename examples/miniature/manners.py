"""Paints a subject plainly or in one of nine manners, as a 64 x 64 image.

The images train a tiny latent diffusion model, so all manners use smooth fields and few bold
strokes: pixel noise would only use up the model's capacity. Every manner covers the background
too, and keeps the silhouette of the subject.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from brushes import (
    X_FULL,
    Y_FULL,
    Rng,
    X,
    Y,
    colour_ramp,
    draw_strokes,
    fill_flat,
    find_seams,
    jittered_grid,
    labels_at,
    lay_ink,
    mix,
    rgb,
    shrink,
    smooth_noise,
    to_tones,
    trace,
)
from subjects import BACK, FULL, ROLES, SCALE, SIZE, SUBJECTS, Scene, draw

__all__ = ["MANNERS", "SUBJECTS", "paint"]

_SKIES = rgb("a8d0e8 f0c8a0 c8c0e4 b4dcc8 e8b8b8")
_GROUNDS = rgb("88a860 a08860 6c8c9c c0a878 789070")


def _plain(scene: Scene, rng: Rng) -> np.ndarray:
    colours = scene.palette.copy()
    k = rng.integers(len(_SKIES))
    colours[BACK] = _SKIES[k]
    full = fill_flat(colours, scene.labels)
    ground = ~scene.mask
    ground[: int(FULL * rng.uniform(0.68, 0.76))] = False
    full[ground] = _GROUNDS[k]
    return shrink(full)


_CEZANNE = rgb("000000 c88038 94581f 3e3420 f0d494 dca850")
_GREENS = rgb("466a48 64884a 8aa45c c0b068")


def _cezanne(scene: Scene, rng: Rng) -> np.ndarray:
    mask = scene.mask
    flat = fill_flat(_CEZANNE, scene.labels)
    tilt = np.full((SIZE, SIZE), np.deg2rad(-58)) + 0.5 * (smooth_noise(rng, 4) - 0.5)
    x, y = jittered_grid(rng, 6.4)
    # Patches follow a smooth field, lighter above, so that neighbours differ but not like noise.
    field = np.clip(smooth_noise(rng, 4)[y.astype(int), x.astype(int)] * 1.3 - 0.15, 0, 1)
    ink = colour_ramp(np.clip(field + rng.normal(0, 0.18, x.size), 0, 1), _GREENS)
    ink += (16 - 34 * y / SIZE)[:, None]
    base = np.empty((FULL, FULL, 3), dtype=np.uint8)
    base[:] = _GREENS[1]
    back = draw_strokes(base, trace(tilt, x, y, 9.5)[:, ::4], 22, ink)
    x, y = jittered_grid(rng, 4.5)
    role = labels_at(scene, x, y)
    ink = _CEZANNE[role] * rng.uniform(0.82, 1.16, (x.size, 1)) + (10 - 20 * x / SIZE)[:, None]
    front = draw_strokes(flat, trace(tilt, x, y, 5)[role != BACK, ::4], 14, ink[role != BACK])
    # Patches must not swallow small parts, so some of each part's own colour shows through.
    art = 0.6 * shrink(np.where(mask[..., None], front, back))
    art += 0.4 * shrink(np.where(mask[..., None], flat, back))
    return lay_ink(art, mask, 8, "2c3428", 0.7)


_BLUES = rgb("16307c 2454ac 4080cc 78b0e4")
_YELLOWS = rgb("000000 f0bc2c b87420 2c2450 fcf0a8 e4802c")
_EDDIES = ((11, 12, 1.0), (54, 12, -1.0), (9, 55, -0.8), (56, 54, 0.8))


def _van_gogh(scene: Scene, rng: Rng) -> np.ndarray:
    mask = scene.mask
    flat = fill_flat(_YELLOWS, scene.labels)
    gy, gx = np.gradient(gaussian_filter(shrink(mask), 2.5))
    # Strokes run along the contour near the subject and round four eddies elsewhere.
    vx, vy = -gy * 25 + 0.4, gx * 25 + 0.3 * np.sin(X / 9)
    glow = np.zeros((SIZE, SIZE), dtype=np.float32)
    for cx, cy, spin in _EDDIES:
        rx, ry = X - cx - rng.uniform(-2, 2), Y - cy - rng.uniform(-2, 2)
        far = np.hypot(rx, ry) + 0.5
        pull = 3.0 * spin * np.exp(-((far / 17) ** 2)) / far
        vx, vy = vx - ry * pull, vy + rx * pull
        # Rings of light and dark blue make the eddies show even when they are blurred.
        glow += np.cos(far * 1.05) * np.exp(-((far / 13) ** 2))
    flow = np.arctan2(vy, vx)
    x, y = jittered_grid(rng, 3.8)
    row, col = y.astype(int), x.astype(int)
    tone = 0.4 + 0.45 * glow[row, col] + rng.normal(0, 0.16, x.size)
    ink = colour_ramp(np.clip(tone, 0, 1), _BLUES)
    ink[(glow[row, col] > 0.55) & (y < 30)] = (244, 216, 96)  # stars in the upper eddies
    base = np.empty((FULL, FULL, 3), dtype=np.uint8)
    base[:] = _BLUES[1]
    back = draw_strokes(base, trace(flow, x, y, 10), 9, ink)
    x, y = jittered_grid(rng, 3.2)
    role = labels_at(scene, x, y)
    ink = _YELLOWS[role] * rng.choice([0.8, 1.0, 1.14], (x.size, 1))
    front = draw_strokes(flat, trace(flow, x, y, 5)[role != BACK], 7, ink[role != BACK])
    art = 0.75 * shrink(np.where(mask[..., None], front, back))
    art += 0.25 * shrink(np.where(mask[..., None], flat, back))
    return lay_ink(lay_ink(art, scene.labels, 4, "46281e", 0.45), mask, 10, "0c0e30", 0.95)


_SHARDS = rgb("8c8478 a8a094 6c665c c0b8a8 787068")
_ROSES = rgb("000000 cc7858 8c4c40 3c2c2c f4d8bc e0a078")


def _picasso(scene: Scene, rng: Rng) -> np.ndarray:
    # One seed in each cell of a grid keeps the shards large and of similar size.
    cell = np.arange(16)
    sx = (cell % 4 + rng.uniform(0.1, 0.9, 16)) * 16
    sy = (cell // 4 + rng.uniform(0.1, 0.9, 16)) * 16
    far = np.stack([(X_FULL[::2, ::2] - a) ** 2 + (Y_FULL[::2, ::2] - b) ** 2
                    for a, b in zip(sx, sy, strict=True)])  # fmt: skip
    shard = far.argmin(axis=0).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    table = np.empty((16, ROLES, 3), dtype=np.float32)
    table[:] = _ROSES * rng.choice([0.8, 0.95, 1.12], (16, 1, 1))
    table[:, BACK] = _SHARDS[rng.integers(len(_SHARDS), size=16)]
    art = shrink(np.clip(table, 0, 255).astype(np.uint8)[shard, scene.labels])
    # Each facet is lit from one side, which is what makes it look folded.
    lean = rng.uniform(-1.2, 1.2, (16, 2))
    flat = shard[2::SCALE, 2::SCALE]
    art = art + (lean[flat, 0] * (X - sx[flat]) + lean[flat, 1] * (Y - sy[flat]))[..., None]
    # Seams are fainter over the subject, whose own outline must stay the clearest line.
    art = lay_ink(art, shard, 6, "100e0e", np.where(scene.mask, 0.6, 1.0)[2::SCALE, 2::SCALE])
    return lay_ink(lay_ink(art, scene.labels, 4, "1e1414", 0.6), scene.mask, 8, "0c0a0a", 1.0)


_DRIPS = rgb("181818 fcfcf8 c42420 1c48a0 e0a018 181818")


def _drip(pen: ImageDraw.ImageDraw, rng: Rng, width: int, ink: tuple[int, ...]) -> None:
    """Pours one looping line across the image, with a few drops beside it."""
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
    art = np.where(scene.mask[..., None], fill_flat(colours, scene.labels), np.asarray(back))
    art[find_seams(scene.mask, 10)] = (20, 20, 20)
    over = Image.fromarray(art)
    pen = ImageDraw.Draw(over)
    for k in rng.choice(len(inks), 3, replace=False):
        _drip(pen, rng, 4, inks[k])
    return shrink(np.asarray(over))


_EMBER = rgb("080402 30160a 7c4018 c88440 f4d090 fff4d8")


def _caravaggio(scene: Scene, rng: Rng) -> np.ndarray:
    mask = shrink(scene.mask)
    tone = to_tones(scene.labels)
    gy, gx = np.gradient(gaussian_filter(mask, 1.6) + 2.0 * gaussian_filter(mask, 4.0))
    shade = np.clip(0.92 + 2.6 * (gx * 0.75 + gy * 0.9), 0.3, 1.3)
    # The light comes from the upper left and does not reach the lower right.
    lx, ly = rng.uniform(12, 20), rng.uniform(10, 18)
    reach = np.exp(-((X - lx) ** 2 + (Y - ly) ** 2) / 3200)
    lit = (0.16 * mask + 0.84 * tone) * shade * (0.42 + 0.68 * reach)
    beam = np.exp(-(((X - Y + rng.uniform(-4, 4)) / 17) ** 2))
    back = (0.02 + 0.3 * beam * np.exp(-(X + Y) / 60)) * (1 - mask)
    return colour_ramp(np.clip(lit + back, 0, 1), _EMBER)


# For each background the flat colours of the roles, none of them the background's own.
_FLATS = (
    rgb("fcd81c e42820 1c54d8 101010 ffffff 24a844"),
    rgb("e42820 fcd81c 1c54d8 101010 ffffff 24a844"),
    rgb("1c54d8 fcd81c e42820 101010 ffffff 24a844"),
)


def _haring(scene: Scene, rng: Rng) -> np.ndarray:
    full = fill_flat(_FLATS[rng.integers(len(_FLATS))], scene.labels)
    full[find_seams(scene.labels, 7)] = 16
    full[find_seams(scene.mask, 14)] = 16
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
    return shrink(np.asarray(image))


_WASH = rgb("000000 e070b0 7c6cc0 54447c 8cdcd4 f4a890")
_PAPER = rgb("f8e4f0 d4ecf4 f4d4e4 e0d8f8 d8f4e8")


def _mckernan(scene: Scene, rng: Rng) -> np.ndarray:
    paper = colour_ramp(np.clip(smooth_noise(rng, 4) * 1.3 - 0.15, 0, 1), _PAPER)
    # Warping the outline a little makes it run like wet paint without losing the shape.
    move = [((smooth_noise(rng, 9, FULL) - 0.5) * 12).astype(int) for _ in range(2)]
    grid = np.arange(FULL)
    rows = np.clip(grid[:, None] + move[0], 0, FULL - 1)
    cols = np.clip(grid[None, :] + move[1], 0, FULL - 1)
    labels = scene.labels[rows, cols]
    mask = shrink(labels != BACK)
    near = np.clip(gaussian_filter(mask, 3.6) * 1.8 * (0.1 + 1.2 * smooth_noise(rng, 5)), 0, 0.9)
    halo = colour_ramp(smooth_noise(rng, 3), rgb("e888c0 9c90e0 7cd0d8"))
    art = mix(paper, halo, near * 0.85)
    wash = shrink(
        fill_flat(_WASH, labels)
    )  # black where there is no subject, already weighted by the mask
    art = art * (1 - mask[..., None]) + wash
    pool = smooth_noise(rng, 6) - 0.5
    art = mix(art, rgb("fff6fc")[0], mask * np.clip(pool, 0, 0.5) * 1.1)
    art = lay_ink(art, labels, 4, "603c96", 0.55 * (0.6 + pool))
    return lay_ink(art, labels != BACK, 6, "54348c", 0.7)


_MIST = rgb("60788c 8ca0b0 b4c2cc d0d6d8")
_SLATE = rgb("1a2630 324452 4e6474 6c8494")


def _edlin(scene: Scene, rng: Rng) -> np.ndarray:
    art = colour_ramp(Y / SIZE, _MIST)
    for k, colour in enumerate(rgb("a4b4c0 8498a6 687e8e")):
        wave = np.sin(X / (9 - k) + rng.uniform(0, 6)) + np.sin(X / (4.6 - k * 0.4) + k)
        ridge = 24 + 12 * k + 2.6 * wave
        depth = Y - ridge
        # Each layer sinks into the mist below its ridge.
        art = mix(art, colour, np.clip(depth + 0.5, 0, 1) * np.exp(-np.clip(depth, 0, 99) / 11))
    mask = shrink(scene.mask)
    body = colour_ramp(np.clip(to_tones(scene.labels) / np.maximum(mask, 0.02), 0, 1), _SLATE)
    art = mix(art, body, mask * np.clip(1.12 - (Y / SIZE) ** 3 * 0.6, 0, 1))
    band = np.exp(-(((Y - 47 - 3 * np.sin(X / 11 + rng.uniform(0, 6))) / 4.5) ** 2))
    return mix(art, _MIST[-1], 0.36 * band)


_NEON = rgb("000000 0c5c88 6c1c90 180838 3cf0e8 f040a8")


def _eng(scene: Scene, rng: Rng) -> np.ndarray:
    horizon = 43 + rng.uniform(-1, 1)
    sky = colour_ramp(np.clip(Y / horizon, 0, 1), rgb("140440 480c78 a81490 f8388c"))
    cx, cy = 32 + rng.uniform(-3, 3), 25 + rng.uniform(-2, 2)
    sun = np.clip(21.5 - np.hypot(X - cx, Y - cy), 0, 1) * (horizon > Y)
    slats = np.clip(np.sin((Y - cy) * 1.15) * 2, 0, 1) * (cy + 4 < Y)
    glow = colour_ramp(np.clip((Y - cy + 21) / 42, 0, 1), rgb("ffe468 ffa048 ff4c80"))
    art = mix(sky, glow, sun * (1 - slats))
    floor = Image.new("RGB", (FULL, FULL), (16, 4, 52))
    pen = ImageDraw.Draw(floor)
    top = horizon * SCALE
    for k in np.arange(-6, 7):
        pen.line((cx * SCALE + k * 14, top, cx * SCALE + k * 74, FULL), (40, 210, 230), 5)
    for k in (0.0, 0.14, 0.36, 0.7):
        y = top + k * (FULL - top)
        pen.line((0, y, FULL, y), (40, 210, 230), 5)
    art = mix(art, shrink(np.asarray(floor)), np.clip(Y - horizon + 1, 0, 1))
    mask = shrink(scene.mask)
    art = art * (1 - mask[..., None]) + shrink(fill_flat(_NEON, scene.labels))
    art = lay_ink(art, scene.labels, 4, "5afaf0", 0.55)
    return lay_ink(art, scene.mask, 7, "96fff8", 0.95)


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
    """Paints one image.

    Args:
        subject: One of `SUBJECTS`.
        manner: One of `MANNERS`.
        rng: The source of all randomness; the same state gives the same image.

    Returns:
        The image, (64, 64, 3) of uint8.
    """
    image = _PAINTERS[manner](draw(subject, rng), rng)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
