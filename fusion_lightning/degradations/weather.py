"""Weather: haze by the scattering model, and rain."""

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from fusion_lightning import kernels
from fusion_lightning.degradations.base import Degradation, Params, Strength, choice, strength


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
    beta: Strength = strength((0.05, 0.14), high=10)
    airlight: Strength = strength((0.75, 0.9), high=1)
    depth: str = choice("ground", "radial")

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Scatter."""
        depth = _depth(image.shape[0], image.shape[1], params["depth"], params["seed"])
        # beyond 425 pixels the radial recipe has negative depths: transmission stays at most 1
        transmission = cv2.exp(np.minimum(depth * np.float32(-params["beta"]), 0))[..., None]
        airlight = np.float32(params["airlight"])
        hazy = (image - airlight) * transmission
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
        {"density": 0.5, "length": 15.0, "opacity": 0.30, "veil": 0.03},
        {"density": 1.0, "length": 20.0, "opacity": 0.40, "veil": 0.06},
        {"density": 2.0, "length": 25.0, "opacity": 0.50, "veil": 0.10},
        {"density": 3.5, "length": 32.0, "opacity": 0.60, "veil": 0.15},
        {"density": 6.0, "length": 40.0, "opacity": 0.70, "veil": 0.22},
    )
    density: Strength = strength((0.8, 3.0), high=1000)
    length: Strength = strength((15.0, 35.0), low=1, high=500)
    width: Strength = strength((1.0, 2.0), low=1, high=50)
    angle: Strength = strength((-30.0, 30.0), low=-90, high=90)
    opacity: Strength = strength((0.3, 0.6), high=1)
    veil: Strength = strength((0.0, 0.15), high=1)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Veil the image and lay the streaks over it."""
        cover = _streaks(image.shape[0], image.shape[1], params) * np.float32(params["opacity"])
        veil = np.float32(params["veil"])
        rainy = image * (1 - veil) + veil * np.float32(0.6)
        rainy += (np.float32(0.95) - rainy) * cover
        return np.clip(rainy, 0, 1, out=rainy)


def _depth(height: int, width: int, model: str, seed: int) -> np.ndarray:
    """Depth of every pixel in the haze model, (H, W) float32."""
    if model == "radial":
        down = np.arange(height, dtype=np.float32)[:, None] - height // 2
        right = np.arange(width, dtype=np.float32) - width // 2
        return np.float32(17) - np.float32(0.04) * np.sqrt(down * down + right * right)
    rise = np.linspace(17, 4, height, dtype=np.float32)[:, None] if height > 1 else np.full((1, 1), 10, np.float32)
    coarse = np.random.default_rng(seed).uniform(0.75, 1.25, (4, 5)).astype(np.float32)
    drift = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return rise * drift


def _streaks(height: int, width: int, params: Params) -> np.ndarray:
    """How much of every pixel a streak covers, (H, W, 1) float32 in [0, 1]."""
    generator = np.random.default_rng(params["seed"])
    # drops fall in from beyond the border as well
    margin = math.ceil(params["length"] / 2)
    canvas = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    count = int(generator.poisson(params["density"] * canvas.size / 1000))
    rows = generator.integers(0, canvas.shape[0], count)
    columns = generator.integers(0, canvas.shape[1], count)
    # near drops are bright, most are far
    canvas[rows, columns] = generator.beta(1.5, 3, count)
    kernel = kernels.line(params["length"], 90 - params["angle"], params["width"])
    # a drop keeps its brightness over the whole streak, so the kernel's peak is one, not its sum
    streaks = cv2.filter2D(canvas, -1, kernel / kernel.max(), borderType=cv2.BORDER_CONSTANT)
    return np.clip(streaks[margin : margin + height, margin : margin + width, None], 0, 1)
