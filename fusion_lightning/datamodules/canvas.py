"""Two pictures drawn at once, what a camera sees and what a thermal camera feels, in perspective."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

Color = tuple[float, float, float]
Point = tuple[float, float]

_SHIFT = 4
"""Bits of sub-pixel precision that OpenCV is given."""


@dataclass(frozen=True)
class Light:
    """A time of day."""

    sky: tuple[Color, Color]
    """Colour at the zenith and at the horizon."""
    level: Color
    """What ambient light does to reflectances, per colour."""
    shadow: float
    """Light left in a cast shadow; 1 when nothing casts any."""
    lamps: float
    """How bright lamps, headlights and lit windows are, 0 to 1."""


@dataclass
class SceneObject:
    """Something in a scene that a detector would look for."""

    label: str
    mask: np.ndarray
    """Pixels (H, W), bool, where the object is in front."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are the first outside."""
        x, y, width, height = cv2.boundingRect(self.mask.view(np.uint8))
        return x, y, x + width, y + height


@dataclass
class Canvas:
    """Reflectance and temperature, drawn with one brush, seen by a pinhole camera above a flat ground.

    World coordinates are metres: x to the right, y up from the ground, z away from the camera.
    """

    size: int
    horizon: float
    """Row of the horizon in pixels."""
    center: float
    """Column of the vanishing point in pixels."""
    light: Light
    warmth: float = 0.0
    """How much warmer than usual the ground and the walls are, in grey levels."""
    eye: float = 2.2
    """Height of the camera in metres."""
    reflectance: np.ndarray = field(init=False)
    """(H, W, 3), uint8."""
    heat: np.ndarray = field(init=False)
    """(H, W), uint8: 0 is the coldest thing there may be, 255 the hottest."""
    glow: np.ndarray = field(init=False)
    """(H, W, 3), float32: light from lamps, added to ambient light."""
    objects: list[SceneObject] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reflectance = np.zeros((self.size, self.size, 3), np.uint8)
        self.heat = np.zeros((self.size, self.size), np.uint8)
        self.glow = np.zeros((self.size, self.size, 3), np.float32)
        self.focal = 1.1 * self.size
        self._mask: np.ndarray | None = None

    def project(self, x: float, y: float, z: float) -> Point:
        """Pixel (column, row) of a point in the world."""
        return self.center + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def fade(self, color: Color, z: float) -> Color:
        """A colour seen through z metres of air."""
        clear = float(np.exp(-z / 140))
        return tuple(clear * c + (1 - clear) * a for c, a in zip(color, self.light.sky[1], strict=True))  # type: ignore[return-value]

    def polygon(self, points: Sequence[Point], color: Color | None, heat: float | None) -> None:
        """Fill a polygon given in pixels; None leaves that picture as it is."""
        corners = np.clip(np.asarray(points), -8 * self.size, 8 * self.size)
        whole = (corners * (1 << _SHIFT)).round().astype(np.int32)
        for image, value in ((self.reflectance, color), (self.heat, heat), (self._mask, 255)):
            if image is not None and value is not None:
                cv2.fillPoly(image, [whole], value, cv2.LINE_AA, _SHIFT)

    def ellipse(self, center: Point, axes: Point, color: Color | None, heat: float | None) -> None:
        """Fill an upright ellipse given in pixels by its centre and half axes."""
        box = (center, (2 * axes[0], 2 * axes[1]), 0.0)
        for image, value in ((self.reflectance, color), (self.heat, heat), (self._mask, 255)):
            if image is not None and value is not None:
                cv2.ellipse(image, box, value, -1, cv2.LINE_AA)

    def quad(self, corners: Sequence[tuple[float, float, float]], color: Color | None, heat: float | None) -> None:
        """Fill a polygon given in the world, faded by the distance of its first corner."""
        faded = None if color is None else self.fade(color, corners[0][2])
        self.polygon([self.project(*corner) for corner in corners], faded, heat)

    def begin(self) -> None:
        """What is drawn from here on belongs to one object."""
        self._mask = np.zeros((self.size, self.size), np.uint8)

    def end(self, label: str) -> None:
        """Close the object; it hides what it stands in front of, and is listed if any of it is in view."""
        assert self._mask is not None
        mask, self._mask = self._mask > 127, None
        for other in self.objects:
            other.mask &= ~mask
        self.objects.append(SceneObject(label, mask))

    def shine(self, center: Point, radius: float, color: Color, strength: float, flat: float = 1.0) -> None:
        """Add a soft spot of light around a point in pixels; flat is its height relative to its width."""
        reach = min(3 * radius, 2.0 * self.size)
        left, right = (int(np.clip(center[0] + side * reach, 0, self.size)) for side in (-1, 1))
        top, bottom = (int(np.clip(center[1] + side * reach * flat, 0, self.size)) for side in (-1, 1))
        if left >= right or top >= bottom:
            return
        across = np.exp(-0.5 * ((np.arange(left, right, dtype=np.float32) - center[0]) / radius) ** 2)
        down = np.exp(-0.5 * ((np.arange(top, bottom, dtype=np.float32) - center[1]) / (radius * flat)) ** 2)
        spot = (strength * down[:, None] * across).astype(np.float32)
        self.glow[top:bottom, left:right] += spot[..., None] * np.asarray(color, np.float32)


@lru_cache(maxsize=8)
def noise(smoothness: float, size: int = 512) -> np.ndarray:
    """A tile of random texture (size, size), float32 with mean 0 and deviation 1.

    Args:
        smoothness: Exponent of the amplitude over the spatial frequency: 0 is grain, 1 and more is cloud.
        size: Side in pixels.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    grain = np.fft.rfft2(np.random.default_rng(0).standard_normal((size, size)))
    tile = np.fft.irfft2(grain / frequency**smoothness, s=(size, size))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)
