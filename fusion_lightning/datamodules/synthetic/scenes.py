"""Street scenes rendered from a seed: a visible and a thermal picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import cv2
import numpy as np

from fusion_lightning.datamodules.synthetic import props
from fusion_lightning.datamodules.synthetic.canvas import Canvas, Light, SceneObject, noise, patch

_LIGHTS = (
    Light(((86, 132, 196), (196, 212, 226)), (1.08, 1.04, 0.98), 0.45, 0.0),
    Light(((150, 158, 168), (206, 208, 210)), (0.86, 0.88, 0.92), 0.85, 0.0),
    Light(((74, 84, 128), (226, 168, 124)), (0.72, 0.62, 0.60), 0.65, 0.5),
    Light(((14, 18, 34), (46, 48, 64)), (0.26, 0.28, 0.36), 1.0, 1.0),
)
"""Sun, overcast, dusk, night."""
_WARMEST_SKY = 56
"""Heat below which a pixel is sky, or glass that mirrors it: smooth in the visible, too."""
_Thing = tuple[float, float, Callable[[Canvas, Random], None]]
"""Distance, place across the street, painter."""
_SMALLEST = 12
"""Pixels below which an object is not listed."""


@dataclass(frozen=True)
class Scene:
    """Two aligned pictures of one scene, and what is in it."""

    visible: np.ndarray
    """(size, size, 3), uint8."""
    infrared: np.ndarray
    """(size, size, 1), uint8."""
    objects: list[SceneObject]
    """People and cars in view, with masks and boxes, far to near."""


def render_scene(seed: int, size: int = 256) -> Scene:
    """Render a street: sky, buildings, trees, a road, cars and people, at some time of day.

    The visible picture is reflectance times light: it holds colour, texture, writing, shadows and lamps. The infrared
    one is a temperature field: people, engines, tyres and badly insulated windows shine in it whatever the light,
    while paint, writing and shadows leave no trace.

    Args:
        seed: Decides everything.
        size: Side of the pictures in pixels.

    Returns:
        The scene, the same bytes for the same arguments.
    """
    rng = Random(seed)
    light = rng.choices(_LIGHTS, (0.4, 0.25, 0.15, 0.2))[0]
    horizon, center = size * rng.uniform(0.36, 0.48), size * rng.uniform(0.36, 0.64)
    canvas = Canvas(size, horizon, center, light, rng.uniform(-10, 10))
    road = rng.uniform(3.2, 4.6)
    street = road + rng.uniform(2.4, 4.2)
    _draw_sky(canvas, rng)
    _draw_ground(canvas, rng, road, street)
    things = _plan(rng, road, street)
    shadow = _cast_shadows(canvas, rng, street, [(x, z) for z, x, _ in things if abs(x) < street])
    # houses first, for nothing in the street stands behind one; then from far to near
    for _, _, paint in sorted(things, key=lambda thing: (abs(thing[1]) <= street, -thing[0])):
        paint(canvas, rng)
    return _develop(canvas, rng, shadow)


def _plan(rng: Random, road: float, street: float) -> list[_Thing]:
    """Everything that stands."""
    things: list[_Thing] = []
    for side in (-1, 1):
        near, end, before = rng.uniform(7, 13), 0.0, 0
        while near < 65:
            far, floors = near + rng.uniform(9, 18), rng.randint(2, 5)
            house = partial(props.building, side=side, street=street, z=(near, far), floors=floors)
            things.append((near, side * street * 1.01, partial(house, gable=near > end or floors > before)))
            near, end, before = far + (rng.uniform(3, 9) if rng.random() < 0.35 else 0), far, floors
        for z in (rng.uniform(8, 14), rng.uniform(18, 30), rng.uniform(34, 50)):
            x = side * (street - rng.uniform(0.5, 1.0))
            if rng.random() < 0.5:
                things.append((z, x, partial(props.tree, x=x, z=z)))
            else:
                x = side * (road + 0.3)
                things.append((z, x, partial(props.lamp, side=side, x=x, z=z)))
        z = rng.uniform(7, 11)
        for _ in range(rng.randint(0, 3)):
            parked = rng.random() < 0.45
            x = side * (road - 1.0 if parked else road * 0.42)
            things.append((z, x, partial(props.car, x=x, z=z, facing=side < 0, running=not parked)))
            z += rng.uniform(6.5, 16)
    for _ in range(rng.randint(2, 6)):
        z = min(rng.uniform(5.5, 18), rng.uniform(5.5, 40))
        pavement = rng.choice((-1, 1)) * rng.uniform(road + 0.4, street - 0.4)
        x = pavement if rng.random() < 0.75 else rng.uniform(-2, 2)
        things.append((z, x, partial(props.person, x=x, z=z)))
    return things


def _draw_sky(canvas: Canvas, rng: Random) -> None:
    size, rows = canvas.size, int(canvas.horizon) + 1
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    cover = np.clip(patch(rng, rows, size, 1.6) * 0.5 + rng.uniform(-0.2, 0.3), 0, 1) * (1 - 0.6 * down)
    bright = 64 * min(1.0, sum(canvas.light.level) / 3)
    for channel, (top, low) in enumerate(zip(*canvas.light.sky, strict=True)):
        blue = top + (low - top) * down
        canvas.reflectance[:rows, :, channel] = blue + cover * (0.75 * low + bright - blue)
    canvas.heat[:rows] = 18 + 24 * down + 14 * cover


def _draw_ground(canvas: Canvas, rng: Random, road: float, street: float) -> None:
    warm, near, far = canvas.warmth, 1.8, 400.0

    def strip(left: float, right: float, grey: tuple[float, float, float], heat: float) -> None:
        canvas.quad([(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)], grey, heat)

    canvas.reflectance[int(canvas.horizon) :] = rng.choice(((108, 118, 74), (126, 120, 104), (86, 108, 62)))
    canvas.heat[int(canvas.horizon) :] = int(78 + warm)
    strip(-street, street, (150, 146, 138), 102 + warm)
    strip(-road - 0.15, road + 0.15, (182, 180, 174), 92 + warm)
    strip(-road, road, rng.choice(((84, 86, 90), (98, 96, 94), (72, 74, 80))), 120 + warm)
    for dash in range(4, 90, 6):
        z = float(dash)
        canvas.quad([(-0.08, 0, z), (0.08, 0, z), (0.08, 0, z + 2.5), (-0.08, 0, z + 2.5)], (226, 226, 220), None)
    if rng.random() < 0.4:
        z = rng.uniform(8, 14)
        for stripe in range(int(2 * road / 1.1)):
            x = -road + 0.4 + 1.1 * stripe
            canvas.quad([(x, 0, z), (x + 0.55, 0, z), (x + 0.55, 0, z + 3), (x, 0, z + 3)], (228, 228, 222), None)
    _grain(canvas, rng)


def _grain(canvas: Canvas, rng: Random) -> None:
    """Lay rough texture on the ground, finer with distance; the thermal camera sees almost none of it."""
    top = int(canvas.horizon) + 2
    depth = canvas.focal * canvas.eye / (np.arange(top, canvas.size, dtype=np.float32) - canvas.horizon)
    across = (np.arange(canvas.size, dtype=np.float32) - canvas.center)[None] * depth[:, None] / canvas.focal
    shift = rng.uniform(0, 400)
    map_x, map_y = across * 24 + shift, np.broadcast_to(depth[:, None] * 12 + shift, across.shape)
    texture = cv2.remap(noise(0.6), map_x, np.ascontiguousarray(map_y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    texture = texture * np.clip(14 / depth, 0, 1)[:, None]
    rough = cv2.merge([1 + 0.08 * texture] * 3)
    canvas.reflectance[top:] = cv2.multiply(canvas.reflectance[top:], rough, dtype=cv2.CV_8U)
    canvas.heat[top:] = cv2.add(canvas.heat[top:], 1.5 * texture, dtype=cv2.CV_8U)


def _cast_shadows(canvas: Canvas, rng: Random, street: float, places: list[tuple[float, float]]) -> np.ndarray:
    """Light that the sun leaves on the ground (H, W), 1 in the open; found in no temperature."""
    shadow = np.ones((canvas.size, canvas.size), np.float32)
    left, sun = canvas.light.shadow, rng.choice((-1, 1))

    def darken(corners: list[tuple[float, float]]) -> None:
        points = np.clip([canvas.project(x, 0, z) for x, z in corners], -4000, 4000)
        cv2.fillPoly(shadow, [points.round().astype(np.int32)], left)

    if left < 1:
        edge = -sun * street * rng.uniform(0.1, 1.2)
        darken([(-sun * street * 1.5, 2), (edge, 2), (edge, 300), (-sun * street * 1.5, 300)])
        for x, z in places:
            darken([(x - 0.4, z), (x + 0.4, z), (x + sun * 2.6, z + 0.9), (x + sun * 2.0, z + 0.9)])
    return cv2.GaussianBlur(shadow, (0, 0), canvas.size / 256)


def _develop(canvas: Canvas, rng: Random, shadow: np.ndarray) -> Scene:
    """Expose both cameras: light on the reflectance, optics and noise on either."""
    size, horizon = canvas.size, int(canvas.horizon)
    standing = np.zeros((size, size), bool)
    for item in canvas.objects:
        standing |= item.mask
    # people and cars stand above the ground, so its shadows only brush them
    shadow[standing] = 0.5 * (1 + shadow[standing])
    shadow[:horizon] = 1
    light = shadow * (1 + 0.05 * patch(rng, size, size, 0.7) * (canvas.heat > _WARMEST_SKY))
    grain = 1.5 * patch(rng, size, size)
    channels = []
    for plane, level, glow in zip(
        cv2.split(canvas.reflectance), canvas.light.level, cv2.split(canvas.glow), strict=True
    ):
        seen: np.ndarray = cv2.multiply(plane, light, scale=level, dtype=cv2.CV_32F)
        if canvas.light.lamps:
            seen += glow * (30 + 0.75 * plane)
            seen += cv2.multiply(plane, canvas.emission, scale=0.7 / 255, dtype=cv2.CV_32F)
        channels.append(cv2.add(seen, grain, dtype=cv2.CV_8U))
    # warmth creeps: no two square metres of a wall are equally warm
    heat = canvas.heat + 4 * patch(rng, size, size, 1.4)
    heat = cv2.GaussianBlur(heat, (0, 0), 0.8 * size / 256)
    infrared = cv2.add(heat, 0.8 * patch(rng, size, size), dtype=cv2.CV_8U)
    objects = [item for item in canvas.objects if item.mask.sum() >= _SMALLEST]
    return Scene(cv2.merge(channels), infrared[..., None], objects)
