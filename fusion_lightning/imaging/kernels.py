"""Convolution kernels of blurs, shared by the effects that apply them and the operators that undo them.

Every kernel is square with an odd side, float32, non-negative and sums to one; its middle element is its origin.
"""

import math

import numpy as np


def gaussian(sigma: float) -> np.ndarray:
    """Gaussian kernel of standard deviation ``sigma`` pixels, cut at five of them: side 2⌈5σ⌉ + 1."""
    taps = gaussian_taps(sigma)
    return np.outer(taps, taps).astype(np.float32)


def gaussian_taps(sigma: float) -> np.ndarray:
    """The one-dimensional factor of `gaussian`, float64; a single 1 for ``sigma`` 0.

    Five deviations, because the published degraded images can only be matched with 21 taps or more at σ = 2.
    """
    if sigma <= 0:
        return np.ones(1)
    reach = math.ceil(5 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def line(length: float, angle: float, width: float = 1.0) -> np.ndarray:
    """Line through the origin, as a moving camera or a falling drop draws it.

    Args:
        length: Length in pixels; 1 or less is a point for ``width`` 1.
        angle: Direction in degrees, counter-clockwise from the x axis (rows count downwards).
        width: Width in pixels.
    """
    reach = math.ceil((max(length, width) + 1) / 2)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = np.abs(right * cos - down * sin), np.abs(right * sin + down * cos)
    # each pixel weighs as much as the line covers of it: one inside, fading over one pixel at the border
    coverage = np.clip((length + 1) / 2 - along, 0, 1) * np.clip((width + 1) / 2 - across, 0, 1)
    return _normalised(coverage)


def disk(radius: float) -> np.ndarray:
    """Disk of ``radius`` pixels with a smooth rim: the image of a point through a lens out of focus."""
    reach = math.ceil(radius + 0.5)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    return _normalised(np.clip(radius + 0.5 - np.hypot(down, right), 0, 1))


def _normalised(kernel: np.ndarray) -> np.ndarray:
    return (kernel / kernel.sum()).astype(np.float32)
