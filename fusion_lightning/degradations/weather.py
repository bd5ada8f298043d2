"""Weather: haze by the scattering model, and rain."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength


@dataclass(frozen=True)
class Haze(Degradation):
    """Haze by atmospheric scattering: `y = x t + airlight (1 − t)`, transmission `t = exp(−beta · d)`.

    Args:
        beta: Scattering per unit of depth.
        airlight: Brightness of the haze.
        depth: The depth `d` of every pixel, which no camera delivers: ``ground`` rises from 4 at the lower edge to 17
            at the upper one, with slow random drifts of the haze; ``radial`` is the EMS recipe `17 − 0.04 · radius`
            around the middle of the image, in pixels.
    """

    name: ClassVar[str] = "haze"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple({"beta": beta} for beta in (0.03, 0.055, 0.085, 0.125, 0.18))
    beta: Annotated[Strength, Bounds(high=10)] = (0.05, 0.14)
    airlight: Annotated[Strength, Bounds(high=1)] = (0.75, 0.9)
    depth: Literal["ground", "radial"] = "ground"

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Scatter."""
        depth = _depth(image.shape[0], image.shape[1], params["depth"], params["seed"])
        # beyond 425 pixels the radial recipe has negative depths: transmission stays at most 1
        transmission = _spread(cv2.exp(np.minimum(depth * np.float32(-params["beta"]), 0)), image.shape[2])
        airlight = np.float32(params["airlight"])
        hazy = image - airlight
        hazy *= transmission
        hazy += airlight
        return np.clip(hazy, 0, 1, out=hazy)


@dataclass(frozen=True)
class Rain(Degradation):
    """Rain: bright streaks, all nearly in one direction, over a slightly veiled image.

    Args:
        density: Streaks per 1000 pixels.
        length: Length of a streak in pixels.
        width: Width of a streak in pixels.
        angle: How far the streaks lean from the vertical, in degrees.
        opacity: How much of a streak's brightness is put over the image.
        veil: How much of the image is lost to the drops that are too far to be seen.
    """

    name: ClassVar[str] = "rain"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = (
        {"density": 2.0, "length": 12.0, "opacity": 0.40, "veil": 0.03},
        {"density": 3.5, "length": 16.0, "opacity": 0.46, "veil": 0.06},
        {"density": 5.5, "length": 20.0, "opacity": 0.52, "veil": 0.10},
        {"density": 8.0, "length": 25.0, "opacity": 0.58, "veil": 0.16},
        {"density": 12.0, "length": 30.0, "opacity": 0.64, "veil": 0.24},
    )
    density: Annotated[Strength, Bounds(high=1000)] = (2.0, 8.0)
    length: Annotated[Strength, Bounds(low=1, high=500)] = (12.0, 28.0)
    width: Annotated[Strength, Bounds(low=1, high=50)] = (1.0, 1.5)
    angle: Annotated[Strength, Bounds(low=-90, high=90)] = (-30.0, 30.0)
    opacity: Annotated[Strength, Bounds(high=1)] = (0.35, 0.6)
    veil: Annotated[Strength, Bounds(high=1)] = (0.0, 0.15)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Veil the image and lay the streaks over it."""
        veil = np.float32(params["veil"])
        rainy = image * (1 - veil)
        rainy += veil * np.float32(0.6)
        streaks = _streaks(image.shape[0], image.shape[1], params) * np.float32(params["opacity"])
        cover = _spread(streaks, image.shape[2])
        rainy += (np.float32(0.95) - rainy) * cover
        return np.clip(rainy, 0, 1, out=rainy)


def _depth(height: int, width: int, model: str, seed: int) -> np.ndarray:
    """Depth of every pixel in the haze model, (H, W) float32."""
    if model == "radial":
        down = np.arange(height, dtype=np.float32)[:, None] - height // 2
        right = np.arange(width, dtype=np.float32) - width // 2
        return np.float32(17) - np.float32(0.04) * np.sqrt(down * down + right * right)
    rise = np.linspace(17, 4, height, dtype=np.float32)[:, None] if height > 1 else np.full((1, 1), 10, np.float32)
    coarse = np.random.default_rng(seed).uniform(0.88, 1.12, (3, 3)).astype(np.float32)
    drift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return rise * drift


def _streaks(height: int, width: int, params: Params) -> np.ndarray:
    """How much of every pixel a streak covers, (H, W) float32 in [0, 1]."""
    generator = np.random.default_rng(params["seed"])
    lean = math.radians(params["angle"])
    fall = np.array([math.sin(lean), math.cos(lean)]) * params["length"]
    # drops also fall in from beyond the border; the area that is drawn in has to be as densely filled
    margin = np.abs(fall)
    area = (width + 2 * margin[0]) * (height + margin[1])
    count = int(generator.poisson(params["density"] * area / 1000))
    start = generator.uniform((-margin[0], -margin[1]), (width + margin[0], height), (count, 2))
    # near drops are few, long, wide and bright; most are far
    near = np.sort(generator.beta(1.0, 3.5, count))
    stop = start + fall * (0.4 + near[:, None])
    # the drawing takes sixteenths of a pixel
    ends = np.rint(np.stack((start, stop), axis=1) * 16).astype(np.int32)
    canvas = np.zeros((height, width), np.uint8)
    for line, distance in zip(ends, near, strict=True):
        thickness = max(1, round(params["width"] * (0.4 + distance)))
        cv2.line(canvas, line[0], line[1], int(90 + 165 * distance), thickness, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (3, 3), 0.7).astype(np.float32) / np.float32(255)


def _spread(plane: np.ndarray, channels: int) -> np.ndarray:
    """The plane (H, W) in every channel, (H, W, channels): NumPy broadcasts over so few channels slowly."""
    return plane[..., None] if channels == 1 else np.asarray(cv2.merge([plane] * channels))
