"""Noise of sensors: Gaussian, photon, columns, dead pixels. Deviations are in 8-bit grey levels."""

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, ClassVar

import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength

LEVELS = 255.0
"""Grey levels between black and white of an 8-bit image."""


def normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float32, a function of ``seed`` and ``shape`` alone.

    Sixteen random bits look each number up among 65536 quantiles, which reach to 4.3 deviations: nearly three times
    as fast as NumPy's own, and independent of the NumPy version, which does not promise to keep its normal numbers.
    """
    count = math.prod(shape)
    bits = np.frombuffer(np.random.PCG64(seed).random_raw((count + 3) // 4).astype("<u8", copy=False), "<u2")
    return _quantiles()[bits[:count]].reshape(shape)


@functools.cache
def _quantiles() -> np.ndarray:
    standard = NormalDist()
    upper = np.array([standard.inv_cdf((index + 0.5) / 65536) for index in range(32768, 65536)], np.float32)
    return np.concatenate((-upper[::-1], upper))


def photons(image: np.ndarray, peak: float, seed: int) -> np.ndarray:
    """Count photons: Poisson numbers of mean ``peak · image``, over ``peak``; not clipped, float32.

    The counts are drawn by the Cornish–Fisher expansion of the Poisson quantile, `λ + √λ z + (z² − 1)/6` rounded,
    which is within 0.02 of the distribution (total variation) from 0.5 photons on, and five times as fast as exact
    drawing.
    """
    z = normal(seed, image.shape)
    mean = image * np.float32(peak)
    counts = np.sqrt(mean)
    counts *= z
    counts += mean
    z *= z
    z -= 1
    z *= mean > 0  # no light, no photon
    z /= 6
    counts += z
    np.rint(counts, out=counts)
    np.maximum(counts, 0, out=counts)
    counts /= np.float32(peak)
    return counts


@dataclass(frozen=True)
class Noise(Degradation):
    """Gaussian noise, independent per pixel and channel.

    Args:
        sigma: Standard deviation in 8-bit grey levels.
    """

    name: ClassVar[str] = "noise"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple({"sigma": sigma} for sigma in (5, 10, 20, 35, 55))
    sigma: Annotated[Strength, Bounds(high=1000)] = (5.0, 25.0)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Add the noise and clip."""
        noisy = normal(params["seed"], image.shape)
        noisy *= np.float32(params["sigma"] / LEVELS)
        noisy += image
        return np.clip(noisy, 0, 1, out=noisy)


@dataclass(frozen=True)
class Poisson(Degradation):
    """Photon noise: its variance is proportional to the intensity.

    Args:
        peak: Photons counted at white; fewer are noisier.
    """

    name: ClassVar[str] = "poisson"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple({"peak": peak} for peak in (200, 80, 30, 12, 5))
    peak: Annotated[Strength, Bounds(low=1)] = (30.0, 90.0)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Count photons per pixel and channel, and clip."""
        counts = photons(image, params["peak"], params["seed"])
        return np.minimum(counts, 1, out=counts)


@dataclass(frozen=True)
class Stripes(Degradation):
    """Stripe noise of an uncooled infrared detector: every column has an offset of its own.

    Args:
        sigma: Standard deviation of the offsets in 8-bit grey levels.
    """

    name: ClassVar[str] = "stripes"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple({"sigma": sigma} for sigma in (3, 6, 10, 16, 25))
    sigma: Annotated[Strength, Bounds(high=1000)] = (3.0, 8.0)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Add one offset per column to all rows and channels, and clip."""
        offsets = normal(params["seed"], (1, image.shape[1], 1)) * np.float32(params["sigma"] / LEVELS)
        return np.clip(image + offsets, 0, 1)


@dataclass(frozen=True)
class SaltPepper(Degradation):
    """Dead pixels: some are white, some black, in all channels.

    Args:
        salt: Probability that a pixel is white.
        pepper: Probability that a pixel is black.
    """

    name: ClassVar[str] = "salt_pepper"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple({"salt": p, "pepper": p} for p in (0.001, 0.005, 0.02, 0.05, 0.12))
    salt: Annotated[Strength, Bounds(high=1)] = 0.01
    pepper: Annotated[Strength, Bounds(high=1)] = 0.01

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Replace the pixels; salt wins where both fall on one."""
        draw = np.random.default_rng(params["seed"]).random(image.shape[:2], dtype=np.float32)
        result = image.copy()
        result[draw > 1 - params["pepper"]] = 0
        result[draw < params["salt"]] = 1
        return result
