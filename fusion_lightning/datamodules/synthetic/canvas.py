"""Pinhole-camera canvas: a visible and a thermal picture painted at once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

import cv2
import numpy as np

Color = tuple[float, float, float]
Point = tuple[float, float]
Corner = tuple[float, float, float]

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
    emission: np.ndarray = field(init=False)
    """(H, W), uint8: 255 where a surface shines by itself at night."""
    glow: np.ndarray = field(init=False)
    """(H, W, 3), float32: light from lamps, added to ambient light."""
    objects: list[SceneObject] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reflectance = np.zeros((self.size, self.size, 3), np.uint8)
        self.heat = np.zeros((self.size, self.size), np.uint8)
        self.emission = np.zeros((self.size, self.size), np.uint8)
        self.glow = np.zeros((self.size, self.size, 3), np.float32)
        self.focal = 1.1 * self.size
        self.fixed_size = self.size << _SHIFT
        self._mask: np.ndarray | None = None

    def project(self, x: float, y: float, z: float) -> Point:
        """Pixel (column, row) of a point in the world."""
        return self.center + self.focal * x / z, self.horizon + self.focal * (self.eye - y) / z

    def scale(self, z: float) -> float:
        """Pixels per metre at a distance."""
        return self.focal / z

    def fade(self, color: Color, z: float) -> Color:
        """A colour seen through z metres of air."""
        clear, (red, green, blue) = math.exp(-z / 140), self.light.sky[1]
        mist = 1 - clear
        return clear * color[0] + mist * red, clear * color[1] + mist * green, clear * color[2] + mist * blue

    def quad(self, corners: Sequence[Corner], color: Color | None, heat: float | None) -> None:
        """Fill a polygon given in the world, faded by the distance of its first corner; None leaves a picture alone."""
        points = [self.project(*corner) for corner in corners]
        self.fill([_fixed(np.array(points))], color and self.fade(color, corners[0][2]), heat)

    def on_wall(self, rectangles: np.ndarray, start: Point, end: Point) -> np.ndarray:
        """Rectangles on an upright wall as outlines for `fill`.

        Args:
            rectangles: (n, 4): left, right along the wall and bottom, top above the ground, in metres.
            start: Where on the ground, (x, z), the wall starts.
            end: Where it ends.

        Returns:
            (n, 4, 2), fixed-point pixels.
        """
        along = rectangles[:, (0, 1, 1, 0)] / math.dist(start, end)
        factor = self.focal / (start[1] + (end[1] - start[1]) * along)
        corners = np.empty((*along.shape, 2))
        corners[..., 0] = self.center + factor * (start[0] + (end[0] - start[0]) * along)
        corners[..., 1] = self.horizon + factor * (self.eye - rectangles[:, (2, 2, 3, 3)])
        return _fixed(corners)

    def fill(
        self,
        outlines: Sequence[np.ndarray] | np.ndarray,
        color: Color | None,
        heat: float | None,
        emits: bool = False,
    ) -> None:
        """Fill polygons that do not overlap, given in fixed-point pixels; None leaves a picture alone."""
        if not len(outlines):
            return
        for image, value in self._pictures(color, heat, emits):
            cv2.fillPoly(image, list(outlines), value, cv2.LINE_AA, _SHIFT)

    def ball(self, center: Corner, radius: float, color: Color | None, heat: float | None, flat: float = 1.0) -> None:
        """Fill an ellipse around a point in the world; radius in metres, flat is its height relative to its width."""
        column, row = self.project(*center)
        across = radius * self.scale(center[2])
        box = ((column, row), (2 * across, 2 * across * flat), 0.0)
        for image, value in self._pictures(color and self.fade(color, center[2]), heat, False):
            cv2.ellipse(image, box, value, -1, cv2.LINE_AA)

    def _pictures(
        self, color: Color | None, heat: float | None, emits: bool
    ) -> Iterator[tuple[np.ndarray, Color | float]]:
        """The pictures that a brush touches, each with what it leaves there."""
        if color is not None:
            yield self.reflectance, color
            if self.light.lamps:
                yield self.emission, 255.0 * emits
        if heat is not None:
            yield self.heat, heat
        if self._mask is not None:
            yield self._mask, 255.0

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

    def shine(self, at: Corner, radius: float, color: Color, flat: float = 1.0) -> None:
        """Add a soft spot of light; radius in metres, flat is its height relative to its width."""
        (column, row), across = self.project(*at), radius * self.scale(at[2])
        reach = min(3 * across, 2.0 * self.size)
        left, right = (int(min(max(column + side * reach, 0), self.size)) for side in (-1, 1))
        top, bottom = (int(min(max(row + side * reach * flat, 0), self.size)) for side in (-1, 1))
        wide = np.exp(-0.5 * ((np.arange(left, right, dtype=np.float32) - column) / across) ** 2)
        high = np.exp(-0.5 * ((np.arange(top, bottom, dtype=np.float32) - row) / (across * flat)) ** 2)
        self.glow[top:bottom, left:right] += (high[:, None] * wide)[..., None] * np.asarray(color, np.float32)


@lru_cache(maxsize=16)
def noise(smoothness: float = 0.0, wavelength: float | None = None, side: int = 512) -> np.ndarray:
    """A tile of random texture (side, side), float32 with mean 0 and deviation 1.

    Args:
        smoothness: Exponent of the fall of the amplitude with spatial frequency: 0 is grain, 1.6 is cloud.
        wavelength: Keep this wavelength alone, in pixels: the texture then winds like folds.
        side: Side of the tile in pixels.
    """
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    grain = np.fft.rfft2(np.random.default_rng(0).standard_normal((side, side))) / frequency**smoothness
    if wavelength is not None:
        grain *= np.exp(-0.5 * ((frequency * wavelength - 1) / 0.22) ** 2)
    tile = np.fft.irfft2(grain, s=(side, side))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def patch(
    rng: Random, height: int, width: int, smoothness: float = 0.0, *, wavelength: float | None = None
) -> np.ndarray:
    """A random window (height, width) of a noise tile, which repeats where it is too small."""
    tile = noise(smoothness, wavelength)
    side = tile.shape[0]
    if max(height, width) > side:
        tile = np.tile(tile, (-(-height // side), -(-width // side)))
    top, left = rng.randint(0, tile.shape[0] - height), rng.randint(0, tile.shape[1] - width)
    return tile[top : top + height, left : left + width]


def _fixed(points: np.ndarray) -> np.ndarray:
    return (points * (1 << _SHIFT)).astype(np.int32)
