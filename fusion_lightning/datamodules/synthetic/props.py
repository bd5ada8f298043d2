"""Objects of a street: buildings, trees, lamps, cars and people, painted for both cameras."""

import math
from functools import lru_cache
from random import Random

import cv2
import numpy as np

from fusion_lightning.datamodules.synthetic.canvas import Canvas, Color, Corner

_CLOTHES: tuple[Color, ...] = ((38, 40, 48), (58, 50, 46), (30, 44, 78), (110, 36, 38), (70, 78, 66), (180, 176, 168))
_PAINT: tuple[Color, ...] = (
    (200, 202, 206), (44, 46, 50), (158, 30, 32), (34, 66, 128), (120, 124, 128), (222, 220, 214), (196, 150, 40)
)  # fmt: skip
_WALLS: tuple[Color, ...] = (
    (168, 116, 92), (190, 172, 140), (142, 134, 128), (200, 190, 178), (128, 86, 72), (160, 150, 122), (176, 160, 168)
)  # fmt: skip
_BOARDS: tuple[Color, ...] = ((176, 30, 36), (24, 74, 140), (28, 100, 62), (232, 190, 46), (36, 34, 40))
_WORDS = ("CAFE", "HOTEL", "BANK", "SHOP", "BAR", "TAXI", "PIZZA", "BOOKS", "OPEN", "P 24")
_GLASS: tuple[Color, ...] = ((46, 56, 68), (62, 74, 90), (84, 96, 112))
_LIT: tuple[Color, ...] = ((250, 214, 140), (238, 190, 110))
_LAMP = (1.5, 1.15, 0.7)


def shade(color: Color, factor: float) -> Color:
    """A colour under more or less light."""
    return (min(color[0] * factor, 255.0), min(color[1] * factor, 255.0), min(color[2] * factor, 255.0))


def building(
    canvas: Canvas, rng: Random, side: int, street: float, z: tuple[float, float], floors: int, gable: bool
) -> None:
    """A house whose front lies along the street.

    Args:
        canvas: What to draw on.
        rng: Where random choices come from.
        side: -1 on the left of the street, 1 on the right.
        street: Distance of the fronts from the middle of the street.
        z: Where the front starts and ends.
        floors: Number of storeys.
        gable: Whether the gable is in view, over or without a neighbour in front of it.
    """
    wall, height = rng.choice(_WALLS), 3.2 * floors + 1.0
    x, back = side * street, side * (street + 12)
    heat = 94 + canvas.warmth + rng.uniform(-26, 26)
    sun = rng.uniform(0.6, 0.8)
    # in a leaky house every third window is warm
    leaks = rng.choice((0.35, 0.1, 0.1))
    if gable:
        _wall(canvas, rng, ((x, z[0]), (back, z[0])), floors, wall, heat - 8, leaks)
    _wall(canvas, rng, ((x, z[0]), (x, z[1])), floors, shade(wall, sun), heat, leaks)
    canvas.quad(
        [(x, height, z[0]), (back, height, z[0]), (back, height + 0.3, z[0]), (x, height + 0.3, z[0])],
        shade(wall, 0.6),
        heat,
    )
    if rng.random() < 0.75:
        _board(canvas, rng, side * (street - 1.2), rng.uniform(3.2, 4.2), z[0] + 0.3)


def _wall(
    canvas: Canvas,
    rng: Random,
    base: tuple[tuple[float, float], tuple[float, float]],
    floors: int,
    color: Color,
    heat: float,
    leaks: float,
) -> None:
    """A wall over a line on the ground from (x, z) to (x, z), with its rows of windows.

    Glass mirrors the cold sky, windows that leak show warm, at night some are lit. Ledges, frames and transoms are
    paint: no temperature tells them from the wall.
    """
    (_, z0), (_, z1) = base
    length, near = math.dist(*base), min(z0, z1)
    windows = _windows(floors, math.ceil((length - 2.2) / 3.0))
    ledges = [(0.0, length, 3.2 * floor + 0.4, 3.2 * floor + 0.65) for floor in range(1, floors + 1)]
    face = (0.0, length, 0.0, 3.2 * floors + 1.0)
    outlines = canvas.on_wall(np.concatenate(([face, *ledges], *windows)), *base)
    canvas.fill(outlines[:1], canvas.fade(color, near), heat)
    canvas.fill(outlines[1 : floors + 1], canvas.fade(shade(color, 1.18), near), None)
    frames, panes, transoms = outlines[floors + 1 :].reshape(3, -1, 4, 2)
    shown = ((panes.max(1) > 0) & (panes.min(1) < canvas.fixed_size)).all(1)
    frames, panes, transoms = frames[shown], panes[shown], transoms[shown]
    if not len(panes):
        return
    canvas.fill(frames, canvas.fade((222, 218, 208), near), None)
    canvas.fill(panes, canvas.fade(rng.choice(_GLASS), near), 58.0)
    for tint in _GLASS:
        canvas.fill(_some(panes, rng, 0.25), canvas.fade(tint, near), None)
    canvas.fill(_some(panes, rng, leaks), None, 172.0)
    if canvas.light.lamps > 0.9:
        canvas.fill(_some(panes, rng, 0.4), canvas.fade(rng.choice(_LIT), near), None, emits=True)
    # a transom is 10 cm: less than a pixel far away
    if near < 30:
        canvas.fill(transoms, canvas.fade((206, 202, 192), near), None)


def _some(outlines: np.ndarray, rng: Random, part: float) -> list[np.ndarray]:
    return [outline for outline in outlines if rng.random() < part]


@lru_cache(maxsize=64)
def _windows(floors: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, panes and transoms of the windows of a wall, (windows, 4) each: left, right, bottom, top in metres."""
    at = [(3.0 * column + 0.8, 3.2 * floor + 1.2) for floor in range(floors) for column in range(columns)]
    frames = [(u - 0.1, u + 1.4, v - 0.25, v + 1.7) for u, v in at]
    panes = [(u, u + 1.3, v, v + 1.6) for u, v in at]
    transoms = [(u, u + 1.3, v + 1.0, v + 1.1) for u, v in at]
    return np.array(frames), np.array(panes), np.array(transoms)


def tree(canvas: Canvas, rng: Random, x: float, z: float) -> None:
    """A tree: leaves transpire and stay cool, the trunk is a little warmer."""
    height, spread = rng.uniform(4.5, 7.5), rng.uniform(1.4, 2.2)
    canvas.quad(_upright(x, 0.14, 0, height * 0.6, z, 0.1), (70, 54, 42), 88)
    green = rng.choice(((64, 96, 44), (52, 84, 50), (96, 110, 50), (150, 104, 40)))
    for leaf in range(14):
        angle, out = rng.uniform(0, 2 * math.pi), math.sqrt(rng.random())
        # the sunlit crown is drawn over its own shade
        up = (leaf / 7 - 1) * out
        at = (x + math.cos(angle) * out * spread, height * (0.68 + 0.3 * up), z)
        color = shade(green, 0.85 + 0.4 * up + rng.uniform(-0.15, 0.15))
        canvas.ball(at, rng.uniform(0.3, 0.65), color, 64 + 6 * up + rng.uniform(-4, 4), flat=0.8)


def lamp(canvas: Canvas, rng: Random, side: int, x: float, z: float) -> None:
    """A street lamp; at night it lights the ground below, and it is warm."""
    height, arm, on = 6.0, x - side * 1.4, canvas.light.lamps > 0
    canvas.quad(_upright(x, 0.07, 0, height, z, 0.05), (92, 96, 98), 76)
    canvas.quad(
        [(x, height - 0.1, z), (arm, height, z), (arm, height + 0.1, z), (x, height + 0.05, z)], (92, 96, 98), 76
    )
    canvas.quad(
        _upright(arm, 0.35, height - 0.1, 0.22, z, 0.3), (255, 240, 200) if on else (190, 190, 186), 190 if on else 80
    )
    if on:
        bright = canvas.light.lamps
        canvas.shine((arm, height, z), 0.5, shade(_LAMP, 0.8 * bright))
        canvas.shine((arm, 0, z), 4.5, shade(_LAMP, 0.5 * bright), flat=0.45)


def car(canvas: Canvas, rng: Random, x: float, z: float, facing: bool, running: bool) -> None:
    """A car along the road, seen from the rear or, facing, from the front; what runs is hot."""
    paint, half, far = rng.choice(_PAINT), 0.88, z + 4.2
    inner = x - math.copysign(half, x)
    body, glass, tyre = 76 + rng.uniform(0, 20), 46, 160 if running else 84
    low, roof = 0.9, 1.46

    def flank(y: tuple[float, float], bottom: tuple[float, float], top: tuple[float, float]) -> list[Corner]:
        return [(inner, y[0], bottom[0]), (inner, y[0], bottom[1]), (inner, y[1], top[1]), (inner, y[1], top[0])]

    canvas.begin()
    for wheel in (far - 0.8, z + 0.8):
        canvas.ball((inner, 0.32, wheel), 0.25, (18, 18, 20), tyre, flat=1.3)
    for at in (x - half + 0.12, x + half - 0.12):
        canvas.quad(_upright(at, 0.12, 0, 0.5, z), (16, 16, 18), tyre)
    canvas.quad(flank((0.25, low), (z, far), (z, far)), shade(paint, 0.6), body)
    canvas.quad(flank((low, roof - 0.04), (z + 0.4, far - 1.2), (z + 0.8, far - 2.0)), (46, 52, 60), glass)
    top = [
        (x - half * 0.8, roof, z + 0.6),
        (x + half * 0.8, roof, z + 0.6),
        (x + half * 0.8, roof, far - 1.8),
        (x - half * 0.8, roof, far - 1.8),
    ]
    canvas.quad(top, shade(paint, 1.1), body - 16)
    canvas.quad(_upright(x, half, low, roof - low, z, half * 0.78), paint, body)
    canvas.quad(_upright(x, half * 0.84, low + 0.04, roof - low - 0.12, z, half * 0.7), (52, 60, 70), glass)
    canvas.quad(_upright(x, half, 0.25, low - 0.23, z), paint, body)
    if running and facing:
        canvas.quad(_upright(x, half * 0.75, 0.35, 0.55, z, half * 0.65), None, 205)
    elif running:
        canvas.quad(_upright(x, half * 0.8, 0.22, 0.12, z), None, 150)
        canvas.quad(_upright(x + 0.45, 0.16, 0.18, 0.2, z), None, 245)
    canvas.quad(_upright(x, half, 0.25, 0.15, z), shade(paint, 0.5), None)
    canvas.quad(_upright(x, 0.26, 0.44, 0.12, z), (236, 232, 210), None)
    lit = canvas.light.lamps if running else 0.0
    lights: Color = (250, 246, 230) if facing else (214, 24, 22)
    for at in (x - half * 0.8, x + half * 0.8):
        canvas.quad(_upright(at, 0.16, 0.6, 0.18, z), lights if lit else shade(lights, 0.75), None)
        if lit:
            canvas.shine(
                (at, 0.7, z), 0.3 if facing else 0.2, shade((1.6, 1.5, 1.3) if facing else (1.2, 0.15, 0.1), lit)
            )
    if lit and facing:
        canvas.shine((x, 0, z - 1.5), 1.6, shade((0.5, 0.47, 0.4), lit), flat=0.3)
    canvas.end("car")


def person(canvas: Canvas, rng: Random, x: float, z: float) -> None:
    """Somebody walking: clothes that may be as dark as what is behind, and a body that is the hottest thing around."""
    tall, coat, trousers = rng.uniform(0.92, 1.08), rng.choice(_CLOTHES), rng.choice(_CLOTHES)
    stride, lean, heat = rng.uniform(-0.26, 0.26), rng.uniform(-0.05, 0.05), rng.uniform(200, 228)
    skin = rng.choice(((224, 178, 150), (150, 104, 78), (92, 62, 48)))

    def limb(a: tuple[float, float], b: tuple[float, float], width: float, color: Color, warm: float) -> None:
        corners = ((a[0] - width, a[1]), (a[0] + width, a[1]), (b[0] + width * 0.75, b[1]), (b[0] - width * 0.75, b[1]))
        canvas.quad([(x + u, v * tall, z) for u, v in corners], color, warm)

    canvas.begin()
    limb((-stride, 0.02), (-0.05, 0.9), 0.075, shade(trousers, 0.85), heat - 36)
    limb((stride, 0.02), (0.05, 0.9), 0.075, trousers, heat - 30)
    for side in (-1, 1):
        limb((side * (0.26 + lean), 0.85), (side * 0.16, 1.42), 0.06, shade(coat, 0.85), heat - 16)
    limb((0.0, 0.82), (lean, 1.46), 0.2, coat, heat - 8)
    canvas.ball((x + lean, 1.62 * tall, z), 0.1, skin, heat + 24, flat=1.3)
    if rng.random() < 0.7:
        canvas.ball((x + lean, 1.7 * tall, z), 0.1, (44, 34, 28), heat, flat=0.6)
    canvas.end("person")


def _board(canvas: Canvas, rng: Random, x: float, y: float, z: float) -> None:
    """A sign with a word on it: all of it in the visible, a faint plate in the infrared."""
    color, word = rng.choice(_BOARDS), rng.choice(_WORDS)
    half = 0.17 * len(word) + 0.2
    canvas.quad(_upright(x, half, y, 0.75, z), color, 82 + canvas.warmth)
    left, base = canvas.project(x - half + 0.15, y + 0.2, z)
    scale = canvas.scale(z)
    ink = (250, 248, 240) if sum(color) < 420 else (30, 28, 26)
    letters, stroke = 0.0158 * scale, max(1, round(0.06 * scale))
    place = (round(left), round(base))
    cv2.putText(canvas.reflectance, word, place, cv2.FONT_HERSHEY_SIMPLEX, letters, ink, stroke, cv2.LINE_AA)


def _upright(
    x: float, half: float, bottom: float, height: float, z: float, half_top: float | None = None
) -> list[Corner]:
    """An upright quadrilateral that faces the camera, around x."""
    top = half if half_top is None else half_top
    return [(x - half, bottom, z), (x + half, bottom, z), (x + top, bottom + height, z), (x - top, bottom + height, z)]
