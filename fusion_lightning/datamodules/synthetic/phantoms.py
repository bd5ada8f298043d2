"""Head phantoms rendered from a seed: a functional and an anatomical slice."""

import math
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import cv2
import numpy as np

from fusion_lightning.datamodules.synthetic.canvas import SceneObject, patch

_STOPS = (0.0, 0.1, 0.28, 0.40, 0.52, 0.66, 0.80, 0.92, 1.0)
_COLORS = (
    (0, 0, 0), (0, 0, 70), (0, 52, 196), (60, 140, 226), (250, 240, 70), (255, 170, 10), (244, 60, 10), (236, 10, 60),
    (255, 40, 230),
)  # fmt: skip
"""Pseudo-colour of uptake, cold to hot, in the manner of nuclear medicine."""

# brightness of each tissue in a T1-weighted and a T2-weighted slice, and its uptake
_T1 = {"scalp": 0.90, "skull": 0.06, "fluid": 0.10, "grey": 0.48, "white": 0.70, "lesion": 0.32}
_T2 = {"scalp": 0.52, "skull": 0.05, "fluid": 0.92, "grey": 0.50, "white": 0.33, "lesion": 0.80}
_UPTAKE = {"scalp": 0.05, "skull": 0.02, "fluid": 0.05, "grey": 0.78, "white": 0.22, "lesion": 0.0}

_SKIN, _BONE, _BRAIN, _CORTEX = 0.06, 0.13, 0.17, 0.245
"""Depths, as parts of the head's radius, where scalp, skull, fluid and the cortical ribbon end."""


@dataclass(frozen=True)
class Slice:
    """Two aligned pictures of one slice through a head, and what is wrong in it."""

    functional: np.ndarray
    """(size, size, 3), uint8: uptake in pseudo-colour."""
    anatomical: np.ndarray
    """(size, size, 1), uint8."""
    objects: list[SceneObject]
    """The lesion, if there is one."""


def render_slice(seed: int, size: int = 256) -> Slice:
    """Render an axial slice through a head: scalp, skull, folded cortex, white matter, ventricles, deep nuclei.

    The anatomical picture is sharp, grey and blind to function. The functional one is blurred and blind to anatomy: it
    shows what tissue takes up, much in grey matter, less where it is idle, most in an active lesion, which the
    anatomical picture may hardly show.

    Args:
        seed: Decides everything.
        size: Side of the pictures in pixels.

    Returns:
        The slice, the same bytes for the same arguments.
    """
    rng = Random(seed)
    scale, level = size / 256, rng.random()
    x, y = _turn(*_grid(size, rng.uniform(-0.02, 0.02), rng.uniform(-0.02, 0.02)), rng.uniform(-0.1, 0.1))
    depth = _depth(rng, x, y, level)
    rough = patch(rng, size, size, 1.1)
    tissue = _fold(rng, x, y, depth, scale)
    ventricles, nuclei = _deep(rng, x, y, level)
    tissue["fluid"] = np.maximum(tissue["fluid"], ventricles)
    tissue["white"] = tissue["white"] * (1 - nuclei)
    lesion, active = np.zeros_like(x), np.zeros_like(x)
    if rng.random() < 0.5:
        lesion, active = _lesion(rng, x, y, patch(rng, size, size, 1.6), rough, depth)
    tissue["lesion"] = lesion * rng.choice((0.15, 0.6, 1.0))

    anatomy: np.ndarray = _mix(rng.choice((_T1, _T2)), tissue, depth) * (1 + 0.04 * rough)
    anatomy *= 1 + 0.3 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
    anatomy += 0.018 * patch(rng, size, size) * _soft(depth + 0.02, 0.02)
    anatomy = cv2.GaussianBlur(anatomy, (0, 0), 0.6 * scale)

    activity: np.ndarray = 1 + 0.10 * patch(rng, size, size, 1.6)
    for _ in range(rng.randint(1, 3)):
        angle, strength = rng.uniform(0, 2 * math.pi), rng.choice((-0.4, -0.3, 0.25))
        activity *= 1 + strength * _blob(x, y, 0.24 * math.cos(angle), 0.3 * math.sin(angle), rng.uniform(0.06, 0.12))
    tissue["lesion"] = lesion
    uptake: np.ndarray = (
        _mix(_UPTAKE, tissue, depth) * activity * rng.uniform(0.9, 1.05) + rng.choice((0.7, 1.0)) * active
    )
    uptake = cv2.GaussianBlur(uptake, (0, 0), rng.uniform(2.8, 4.2) * scale) * 1.15
    index = cv2.convertScaleAbs(uptake.clip(0, 1), alpha=255)
    seen = lesion > 0.5
    objects = [SceneObject("lesion", seen)] if seen.any() else []
    return Slice(_palette()[index], cv2.convertScaleAbs(anatomy.clip(0, 1), alpha=255)[..., None], objects)


def _depth(rng: Random, x: np.ndarray, y: np.ndarray, level: float) -> np.ndarray:
    """How far inside the head, as a part of its radius: 1 in the middle, 0 at the skin, negative outside."""
    big = 1.0 - 0.6 * max(level - 0.65, 0)
    wide, long = rng.uniform(0.34, 0.38) * big, rng.uniform(0.43, 0.46) * big
    radius, angle = cv2.cartToPolar(x / wide, y / long)
    turn = np.linspace(0, 2 * np.pi, 1025, dtype=np.float32)
    shape = 1 + 0.03 * rng.uniform(-1, 1) * np.cos(2 * turn) + 0.035 * rng.random() * np.sin(turn)
    shape += 0.012 * np.cos(3 * turn + rng.uniform(0, 6)) + 0.006 * np.cos(5 * turn + rng.uniform(0, 6))
    return 1 - radius / shape[(angle * (1024 / (2 * math.pi))).astype(np.int32)]


def _fold(rng: Random, x: np.ndarray, y: np.ndarray, depth: np.ndarray, scale: float) -> dict[str, np.ndarray]:
    """White matter and fluid, as weights: the rest is grey. Sulci run where a winding texture crosses zero."""
    folds = np.abs(patch(rng, len(x), len(x), wavelength=30 * scale))
    reach = np.clip((0.56 - depth) / 0.16, 0, 1)
    between = np.abs(x + 0.006 * patch(rng, len(x), len(x), 1.6)) - 0.005 + 0.02 * _soft(0.2 - np.abs(y), 0.03)
    outer = np.minimum(depth - _BRAIN, between)
    sulci = _soft(0.14 * reach - folds, 0.10) * (reach > 0)
    fluid = np.maximum(sulci, _soft(-outer, 0.006))
    white = _soft(folds - 0.62 * reach, 0.14) * _soft(depth - _CORTEX, 0.02) * _soft(between - 0.03, 0.01)
    return {"white": white, "fluid": fluid}


def _deep(rng: Random, x: np.ndarray, y: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ventricles and deep grey nuclei, as weights; both wane towards the crown of the head."""
    ventricles, nuclei = np.zeros_like(x), np.zeros_like(x)
    wane, size = max(0.0, 1 - 1.2 * level), rng.uniform(0.7, 1.3)
    grown = math.sqrt(size) * (0.3 + 0.7 * wane)
    mirrored = np.abs(x + 0.004)
    for at, wide, long, tilt in (
        ((0.040, -0.10), 0.022, 0.075, 0.35),
        ((0.03, 0.0), 0.012, 0.07, 0.0),
        ((0.058, 0.10), 0.022, 0.075, -0.5),
    ):
        ventricles = np.maximum(ventricles, _oval(mirrored, y, at, wide * grown, long * grown, tilt))
    if wane > 0.1:
        for at, wide, long, tilt in (
            ((0.080, 0.045), 0.038, 0.055, 0.35),
            ((0.115, -0.04), 0.026, 0.07, 0.3),
            ((0.075, -0.10), 0.018, 0.05, 0.3),
        ):
            nuclei = np.maximum(nuclei, min(1.0, 2 * wane) * _oval(mirrored, y, at, wide, long, tilt))
    return ventricles, nuclei * (1 - ventricles)


def _lesion(
    rng: Random, x: np.ndarray, y: np.ndarray, smooth: np.ndarray, rough: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A ragged growth, and the part of it that is active."""
    angle, out, radius = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.2), rng.uniform(0.03, 0.07)
    away = cv2.magnitude(x - out * math.cos(angle), y - 1.2 * out * math.sin(angle)) / radius
    edge = away + 0.16 * smooth + 0.05 * rough
    inside = depth > _BRAIN
    return _soft(1 - edge, 0.15) * inside, _soft(0.75 - edge, 0.25) * inside


def _mix(value: dict[str, float], tissue: dict[str, np.ndarray], depth: np.ndarray) -> np.ndarray:
    """One picture of all tissues, (H, W)."""
    picture = np.full_like(depth, value["grey"])
    for name, weight in tissue.items():
        picture += weight * (value[name] - picture)
    for name, end in (("skull", _BONE), ("scalp", _SKIN)):
        picture += _soft(end - depth, 0.01) * (value[name] - picture)
    return picture * _soft(depth, 0.008)


def _blob(x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, radius: float) -> np.ndarray:
    return np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / radius**2)


def _oval(x: np.ndarray, y: np.ndarray, at: tuple[float, float], wide: float, long: float, tilt: float) -> np.ndarray:
    u, v = _turn(x - at[0], y - at[1], tilt)
    return _soft(1 - cv2.magnitude(u / wide, v / long), 0.15)


def _turn(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * x - sin * y, sin * x + cos * y


def _soft(value: np.ndarray, width: float) -> np.ndarray:
    """A step at 0 that takes ``width`` to either side."""
    return np.clip(value * (0.5 / width) + 0.5, 0, 1)


@lru_cache(maxsize=4)
def _axis(size: int) -> np.ndarray:
    return (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5


def _grid(size: int, left: float, up: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the pixels, (size, size) each, in parts of the side around the middle of the head."""
    axis = _axis(size)
    return np.tile(axis - left, (size, 1)), np.tile((axis - up)[:, None], (1, size))


@lru_cache(maxsize=1)
def _palette() -> np.ndarray:
    at = np.linspace(0, 1, 256)
    return np.stack([np.interp(at, _STOPS, channel) for channel in zip(*_COLORS, strict=True)], axis=1).astype(np.uint8)
