"""Exposure and contrast: low light, over-exposure, low contrast.

The published sets hold real captures of these; the effects here are models of them.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength
from fusion_lightning.degradations.noise import LEVELS, normal


@dataclass(frozen=True)
class LowLight(Degradation):
    """Low light, a short exposure at night: `y = gain · xᵞ` plus the sensor's noise, of variance `y/peak + read²`.

    Args:
        gamma: Exponent; above 1 the shadows sink further than the lamps.
        gain: What is left of white.
        peak: Photons counted at the white of the degraded image; fewer are noisier.
        read: Standard deviation of the read-out noise in 8-bit grey levels.
    """

    name: ClassVar[str] = "low_light"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = (
        {"gamma": 1.3, "gain": 0.70, "peak": 2000, "read": 0.5},
        {"gamma": 1.5, "gain": 0.50, "peak": 1200, "read": 0.8},
        {"gamma": 1.8, "gain": 0.38, "peak": 800, "read": 1.2},
        {"gamma": 2.2, "gain": 0.28, "peak": 500, "read": 1.8},
        {"gamma": 2.6, "gain": 0.20, "peak": 300, "read": 2.5},
    )
    gamma: Annotated[Strength, Bounds(low=0.1, high=10)] = (1.5, 2.5)
    gain: Annotated[Strength, Bounds(high=1)] = (0.25, 0.6)
    peak: Annotated[Strength, Bounds(low=1)] = (400.0, 1500.0)
    read: Annotated[Strength, Bounds(high=100)] = (0.5, 2.0)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Darken, then add the noise that the sensor adds to little light, and clip."""
        dark = power(image, params["gamma"]) * np.float32(params["gain"])
        noise = np.sqrt(dark / np.float32(params["peak"]) + np.float32((params["read"] / LEVELS) ** 2))
        noise *= normal(params["seed"], image.shape)
        noise += dark
        return np.clip(noise, 0, 1, out=noise)


@dataclass(frozen=True)
class OverExposure(Degradation):
    """Over-exposure: `gain · xᵞ`, clipped, with the glare of what was clipped spread around it.

    Args:
        gain: Exposure relative to the right one.
        gamma: Exponent; below 1 lifts the shadows too.
        glare: Part of the light above white that spreads over its neighbourhood.
    """

    name: ClassVar[str] = "over_exposure"
    severities: ClassVar[tuple[Params, ...]] = (
        {"gain": 1.15, "gamma": 1.00, "glare": 0.03},
        {"gain": 1.30, "gamma": 0.95, "glare": 0.05},
        {"gain": 1.45, "gamma": 0.90, "glare": 0.08},
        {"gain": 1.65, "gamma": 0.85, "glare": 0.11},
        {"gain": 1.90, "gamma": 0.80, "glare": 0.15},
    )
    gain: Annotated[Strength, Bounds(low=1, high=100)] = (1.2, 1.8)
    gamma: Annotated[Strength, Bounds(low=0.1, high=10)] = (0.85, 1.0)
    glare: Annotated[Strength, Bounds(high=1)] = (0.03, 0.12)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Brighten, spread the glare, clip."""
        bright = power(image, params["gamma"]) * np.float32(params["gain"])
        if params["glare"] > 0:
            bright += np.float32(params["glare"]) * _glare(np.maximum(bright - 1, 0))
        return np.minimum(bright, 1, out=bright)


@dataclass(frozen=True)
class LowContrast(Degradation):
    """Low contrast of an infrared camera: all levels move towards one grey, `y = m + contrast · (x − m)`.

    Args:
        contrast: What is left of every difference.
        level: The grey `m`, in [0, 1].
    """

    name: ClassVar[str] = "low_contrast"
    severities: ClassVar[tuple[Params, ...]] = tuple(
        {"contrast": contrast} for contrast in (0.7, 0.5, 0.35, 0.22, 0.12)
    )
    contrast: Annotated[Strength, Bounds(high=1)] = (0.2, 0.5)
    level: Annotated[Strength, Bounds(high=1)] = (0.3, 0.6)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Flatten."""
        contrast, level = params["contrast"], params["level"]
        return image * np.float32(contrast) + np.float32((1 - contrast) * level)


def power(image: np.ndarray, exponent: float) -> np.ndarray:
    """The image to a power; OpenCV's is several times as fast as NumPy's."""
    return np.asarray(cv2.pow(image, exponent)).reshape(image.shape)


def _glare(excess: np.ndarray) -> np.ndarray:
    """Spread light over a twelfth of the image: a blur at a quarter of the size, where it is cheap."""
    height, width, channels = excess.shape
    small = cv2.resize(excess, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(height, width) / 48 + 0.1, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
