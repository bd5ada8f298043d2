"""What stands in a street: buildings, trees, lamps, cars and people, each drawn for both cameras."""

import math
from random import Random

import cv2
import numpy as np

from fusion_lightning.datamodules.canvas import Canvas, Color

_CLOTHES: tuple[Color, ...] = ((38, 40, 48), (58, 50, 46), (30, 44, 78), (110, 36, 38), (70, 78, 66), (180, 176, 168))
_PAINT: tuple[Color, ...] = (
    (200, 202, 206), (44, 46, 50), (158, 30, 32), (34, 66, 128), (120, 124, 128), (222, 220, 214), (196, 150, 40)
)  # fmt: skip
_WALLS: tuple[Color, ...] = (
    (168, 116, 92), (190, 172, 140), (142, 134, 128), (200, 190, 178), (128, 86, 72), (160, 150, 122), (176, 160, 168)
)  # fmt: skip
_BOARDS: tuple[Color, ...] = ((176, 30, 36), (24, 74, 140), (28, 100, 62), (232, 190, 46), (36, 34, 40))
_WORDS = ("CAFE", "HOTEL", "BANK", "SHOP", "BAR", "TAXI", "PIZZA", "BOOKS", "OPEN", "P 24")
_LAMP = (1.5, 1.15, 0.7)


def shade(color: Color, factor: float) -> Color:
    """A colour under more or less light."""
    return (min(color[0] * factor, 255.0), min(color[1] * factor, 255.0), min(color[2] * factor, 255.0))


def building(canvas: Canvas, draw: Random, side: int, street: float, z: tuple[float, float]) -> None:
    """A house whose front lies along the street, from z[0] to z[1]; side is -1 on the left and 1 on the right."""
    wall, floors = draw.choice(_WALLS), draw.randint(2, 5)
    height, x, back = 3.2 * floors + 1.0, side * street, side * (street + 12)
    heat = 92 + canvas.warmth + draw.uniform(-10, 12)
    sunny = draw.uniform(0.62, 0.8)
    gable = [(x, 0, z[0]), (back, 0, z[0]), (back, height, z[0]), (x, height, z[0])]
    front = [(x, 0, z[0]), (x, 0, z[1]), (x, height, z[1]), (x, height, z[0])]
    canvas.quad(gable, shade(wall, 1.0), heat - 6)
    canvas.quad(front, shade(wall, sunny), heat)
    for floor in range(1, floors + 1):
        y = 3.2 * floor + 0.4
        canvas.quad(
            [(x, y, z[0]), (x, y, z[1]), (x, y + 0.25, z[1]), (x, y + 0.25, z[0])], shade(wall, sunny * 1.15), None
        )
        canvas.quad(
            [(x, y, z[0]), (back, y, z[0]), (back, y + 0.25, z[0]), (x, y + 0.25, z[0])], shade(wall, 1.12), None
        )
    # the warmest storey of an old house leaks most
    leaky = draw.random() < 0.4
    width, step = 1.3, draw.uniform(2.6, 3.4)
    for floor in range(floors):
        bottom = 3.2 * floor + 1.2
        for column in range(int((z[1] - z[0]) / step)):
            near = z[0] + column * step + 0.7
            _window(canvas, draw, [(x, v, u) for u, v in _corners(near, bottom, width, 1.6)], leaky)
        for column in range(int(12 / step)):
            near = street + column * step + 0.7
            _window(canvas, draw, [(side * u, v, z[0]) for u, v in _corners(near, bottom, width, 1.6)], leaky)
    if draw.random() < 0.75:
        _board(canvas, draw, side * (street - 1.2), draw.uniform(3.2, 4.2), z[0] + 0.3)


def tree(canvas: Canvas, draw: Random, x: float, z: float) -> None:
    """A tree: leaves transpire and stay cool, the trunk is a little warmer."""
    height, spread = draw.uniform(4.5, 7.5), draw.uniform(1.4, 2.2)
    canvas.quad(
        [(x - 0.14, 0, z), (x + 0.14, 0, z), (x + 0.1, height * 0.6, z), (x - 0.1, height * 0.6, z)], (70, 54, 42), 88
    )
    green = draw.choice(((64, 96, 44), (52, 84, 50), (96, 110, 50), (150, 104, 40)))
    scale = canvas.focal / z
    for _ in range(26):
        angle, radius = draw.uniform(0, 2 * math.pi), math.sqrt(draw.random())
        up = math.sin(angle) * radius
        middle = canvas.project(x + math.cos(angle) * radius * spread, height * 0.68 + up * height * 0.3, z)
        size = draw.uniform(0.25, 0.6) * scale
        canvas.ellipse(
            middle,
            (size, size * 0.8),
            canvas.fade(shade(green, 0.8 + 0.35 * up + draw.uniform(-0.2, 0.2)), z),
            66 + 5 * up + draw.uniform(-3, 3),
        )


def lamp(canvas: Canvas, draw: Random, side: int, x: float, z: float) -> None:
    """A street lamp; at night it lights the ground below, and it is warm."""
    height, arm = 6.0, x - side * 1.4
    canvas.quad([(x - 0.07, 0, z), (x + 0.07, 0, z), (x + 0.05, height, z), (x - 0.05, height, z)], (92, 96, 98), 78)
    canvas.quad(
        [(x, height - 0.1, z), (arm, height, z), (arm, height + 0.1, z), (x, height + 0.05, z)], (92, 96, 98), 78
    )
    on = canvas.light.lamps > 0
    head = [
        (arm - 0.35, height - 0.1, z),
        (arm + 0.35, height - 0.1, z),
        (arm + 0.3, height + 0.12, z),
        (arm - 0.3, height + 0.12, z),
    ]
    canvas.quad(head, (255, 240, 200) if on else (190, 190, 186), 190 if on else 80)
    if on:
        canvas.shine(canvas.project(arm, height, z), 0.9 * canvas.focal / z, _LAMP, 0.8)
        canvas.shine(canvas.project(arm, 0, z), 4.5 * canvas.focal / z, _LAMP, 0.5, flat=0.45)


def car(canvas: Canvas, draw: Random, x: float, z: float, facing: bool, running: bool) -> None:
    """A car along the road, seen from the rear or, facing, from the front; running engines, tyres, exhausts are hot."""
    paint, half, length = draw.choice(_PAINT), 0.88, 4.2
    inner = x - math.copysign(half, x)
    far = z + length
    body, glass = 74 + draw.uniform(0, 16), 48
    canvas.begin()
    for wheel in (z + 0.8, far - 0.8):
        center = canvas.project(inner, 0.32, wheel)
        canvas.ellipse(
            center, (0.25 * canvas.focal / wheel, 0.34 * canvas.focal / wheel), (18, 18, 20), 150 if running else 84
        )
    for wheel in (x - half + 0.12, x + half - 0.12):
        corners = [(wheel - 0.12, 0, z), (wheel + 0.12, 0, z), (wheel + 0.12, 0.5, z), (wheel - 0.12, 0.5, z)]
        canvas.quad(corners, (16, 16, 18), 165 if running else 84)
    canvas.quad([(inner, 0.25, z), (inner, 0.25, far), (inner, 0.9, far), (inner, 0.9, z)], shade(paint, 0.6), body)
    canvas.quad(
        [
            (inner * 0.98, 0.9, z + 0.5),
            (inner * 0.98, 0.9, far - 1.2),
            (inner * 0.98, 1.42, far - 2.0),
            (inner * 0.98, 1.42, z + 0.9),
        ],
        (46, 52, 60),
        glass,
    )
    canvas.quad(
        [
            (x - half * 0.8, 1.45, z + 0.6),
            (x + half * 0.8, 1.45, z + 0.6),
            (x + half * 0.8, 1.45, far - 1.8),
            (x - half * 0.8, 1.45, far - 1.8),
        ],
        shade(paint, 1.1),
        body - 14,
    )
    canvas.quad(
        [(x - half, 0.9, z), (x + half, 0.9, z), (x + half * 0.78, 1.46, z + 0.5), (x - half * 0.78, 1.46, z + 0.5)],
        paint,
        body,
    )
    canvas.quad(
        [
            (x - half * 0.84, 0.94, z),
            (x + half * 0.84, 0.94, z),
            (x + half * 0.7, 1.38, z + 0.4),
            (x - half * 0.7, 1.38, z + 0.4),
        ],
        (52, 60, 70),
        glass,
    )
    canvas.quad([(x - half, 0.25, z), (x + half, 0.25, z), (x + half, 0.92, z), (x - half, 0.92, z)], paint, body)
    if running and facing:
        canvas.quad(
            [
                (x - half * 0.75, 0.35, z),
                (x + half * 0.75, 0.35, z),
                (x + half * 0.65, 0.9, z),
                (x - half * 0.65, 0.9, z),
            ],
            None,
            196,
        )
    elif running:
        canvas.quad([(x + 0.3, 0.18, z), (x + 0.62, 0.18, z), (x + 0.62, 0.36, z), (x + 0.3, 0.36, z)], None, 240)
        canvas.quad(
            [
                (x - half * 0.8, 0.22, z),
                (x + half * 0.8, 0.22, z),
                (x + half * 0.8, 0.34, z),
                (x - half * 0.8, 0.34, z),
            ],
            None,
            150,
        )
    canvas.quad(
        [(x - half, 0.25, z), (x + half, 0.25, z), (x + half, 0.4, z), (x - half, 0.4, z)], shade(paint, 0.5), None
    )
    canvas.quad(
        [(x - 0.26, 0.44, z), (x + 0.26, 0.44, z), (x + 0.26, 0.56, z), (x - 0.26, 0.56, z)], (236, 232, 210), None
    )
    lit = running and canvas.light.lamps > 0
    for at in (x - half * 0.8, x + half * 0.8):
        color: Color = (250, 246, 230) if facing else (214, 24, 22)
        canvas.quad(
            [(at - 0.16, 0.6, z), (at + 0.16, 0.6, z), (at + 0.16, 0.78, z), (at - 0.16, 0.78, z)],
            color if lit else shade(color, 0.75),
            None,
        )
        if lit:
            canvas.shine(
                canvas.project(at, 0.7, z),
                0.55 * canvas.focal / z,
                (1.6, 1.5, 1.3) if facing else (1.3, 0.15, 0.1),
                1.0,
            )
    canvas.end("car")


def person(canvas: Canvas, draw: Random, x: float, z: float) -> None:
    """Somebody walking: clothes that may be as dark as what is behind, and a body that is the hottest thing around."""
    tall, coat, trousers = draw.uniform(0.92, 1.08), draw.choice(_CLOTHES), draw.choice(_CLOTHES)
    stride, lean, skin = (
        draw.uniform(-0.28, 0.28),
        draw.uniform(-0.05, 0.05),
        draw.choice(((224, 178, 150), (150, 104, 78), (92, 62, 48))),
    )
    heat = draw.uniform(196, 226)

    def limb(a: tuple[float, float], b: tuple[float, float], width: float, color: Color, warm: float) -> None:
        corners = [(a[0] - width, a[1]), (a[0] + width, a[1]), (b[0] + width * 0.75, b[1]), (b[0] - width * 0.75, b[1])]
        canvas.quad([(x + u, v * tall, z) for u, v in corners], color, warm)

    canvas.begin()
    limb((-stride, 0.02), (-0.05, 0.9), 0.075, shade(trousers, 0.85), heat - 36)
    limb((stride, 0.02), (0.05, 0.9), 0.075, trousers, heat - 30)
    limb((-0.26 - lean, 0.85), (-0.16, 1.42), 0.06, shade(coat, 0.85), heat - 16)
    limb((0.26 + lean, 0.85), (0.16, 1.42), 0.06, shade(coat, 0.85), heat - 16)
    limb((0.0, 0.82), (lean, 1.46), 0.2, coat, heat - 8)
    scale = canvas.focal / z
    head = canvas.project(x + lean, 1.62 * tall, z)
    canvas.ellipse(head, (0.1 * scale, 0.13 * scale), canvas.fade(skin, z), heat + 24)
    if draw.random() < 0.7:
        hair = canvas.project(x + lean, 1.7 * tall, z)
        canvas.ellipse(hair, (0.1 * scale, 0.06 * scale), canvas.fade((44, 34, 28), z), heat)
    canvas.end("person")


def _corners(left: float, bottom: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(left, bottom), (left + width, bottom), (left + width, bottom + height), (left, bottom + height)]


def _window(canvas: Canvas, draw: Random, corners: list[tuple[float, float, float]], leaky: bool) -> None:
    lit = draw.random() < 0.4
    warm = draw.random() < (0.45 if leaky else 0.12)
    glass = shade((62, 74, 88), draw.uniform(0.7, 1.3))
    canvas.quad(
        corners,
        (248, 214, 140) if lit and canvas.light.lamps > 0.9 else glass,
        draw.uniform(150, 185) if warm else draw.uniform(56, 72),
    )
    if lit and canvas.light.lamps > 0.9:
        points = [canvas.project(*corner) for corner in corners]
        cv2.fillConvexPoly(canvas.glow, _whole(points), (1.0, 0.9, 0.7))
    # sill and transom are paint: the thermal camera does not see them
    (x0, y0, z0), (x1, _, z1) = corners[0], corners[1]
    canvas.quad([(x0, y0 - 0.18, z0), (x1, y0 - 0.18, z1), (x1, y0, z1), (x0, y0, z0)], (226, 222, 212), None)
    canvas.quad([(x0, y0 + 1.0, z0), (x1, y0 + 1.0, z1), (x1, y0 + 1.1, z1), (x0, y0 + 1.1, z0)], (214, 210, 200), None)


def _board(canvas: Canvas, draw: Random, x: float, y: float, z: float) -> None:
    """A sign with a word on it: all of it in the visible, a faint plate in the infrared."""
    color, word = draw.choice(_BOARDS), draw.choice(_WORDS)
    half, height = 0.17 * len(word) + 0.2, 0.75
    canvas.quad([(x + u, v, z) for u, v in _corners(-half, y, 2 * half, height)], color, 82 + canvas.warmth)
    scale = canvas.focal / z
    left, base = canvas.project(x - half + 0.15, y + 0.2, z)
    ink = (250, 248, 240) if sum(color) < 420 else (30, 28, 26)
    place, letter = (round(left), round(base)), 0.0158 * scale
    cv2.putText(
        canvas.reflectance, word, place, cv2.FONT_HERSHEY_SIMPLEX, letter, ink, max(1, round(0.06 * scale)), cv2.LINE_AA
    )


def _whole(points: list[tuple[float, float]]) -> np.ndarray:
    return np.clip(np.asarray(points), -4000, 4000).round().astype(np.int32)
