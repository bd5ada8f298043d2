"""Blurs: convolutions with a Gaussian, a line or a disk."""

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from fusion_lightning import kernels
from fusion_lightning.degradations.base import Degradation, Params, Strength, choice, strength

_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "zero": cv2.BORDER_CONSTANT, "circular": cv2.BORDER_WRAP}


@dataclass(frozen=True)
class Blur(Degradation):
    """Gaussian blur: an unsharp lens, or a detector with large pixels.

    Args:
        sigma: Standard deviation in pixels.
        padding: What lies beyond the border: ``reflect`` (the mirrored image, without repeating its edge), ``zero``
            (black, so that the border darkens), ``circular`` (the opposite side).
    """

    name: ClassVar[str] = "blur"
    severities: ClassVar[tuple[Params, ...]] = tuple({"sigma": sigma} for sigma in (0.7, 1.2, 2.0, 3.0, 4.5))
    sigma: Strength = strength((1.0, 3.0), high=100)
    padding: str = choice("reflect", "zero", "circular")

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Convolve rows and columns with the Gaussian, cut at five deviations."""
        taps = kernels.gaussian_taps(params["sigma"])

        def convolve(extended: np.ndarray, border: int) -> np.ndarray:
            return np.asarray(cv2.sepFilter2D(extended, -1, taps, taps, borderType=border))

        return _filter(image, len(taps), params["padding"], convolve)


@dataclass(frozen=True)
class MotionBlur(Degradation):
    """Motion blur: the camera moved along a straight line during the exposure.

    Args:
        length: Length of the motion in pixels.
        angle: Direction in degrees, counter-clockwise from the x axis.
        padding: As in `Blur`.
    """

    name: ClassVar[str] = "motion_blur"
    severities: ClassVar[tuple[Params, ...]] = tuple({"length": length} for length in (4, 8, 13, 20, 30))
    length: Strength = strength((7.0, 20.0), low=1, high=500)
    angle: Strength = strength((0.0, 180.0), low=-360, high=360)
    padding: str = choice("reflect", "zero", "circular")

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Convolve with a line."""
        return _convolve(image, kernels.line(params["length"], params["angle"]), params["padding"])


@dataclass(frozen=True)
class Defocus(Degradation):
    """Defocus: every point becomes a disk.

    Args:
        radius: Radius of the disk in pixels.
        padding: As in `Blur`.
    """

    name: ClassVar[str] = "defocus"
    severities: ClassVar[tuple[Params, ...]] = tuple({"radius": radius} for radius in (1, 2, 3.5, 5, 8))
    radius: Strength = strength((2.0, 5.0), high=100)
    padding: str = choice("reflect", "zero", "circular")

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Convolve with a disk."""
        return _convolve(image, kernels.disk(params["radius"]), params["padding"])


def _convolve(image: np.ndarray, kernel: np.ndarray, padding: str) -> np.ndarray:
    def correlate(extended: np.ndarray, border: int) -> np.ndarray:
        # the kernels are point-symmetric, so that OpenCV's correlation is the convolution
        return np.asarray(cv2.filter2D(extended, -1, kernel, borderType=border))

    return _filter(image, len(kernel), padding, correlate)


def _filter(image: np.ndarray, side: int, padding: str, convolve: Any) -> np.ndarray:
    """Run an OpenCV filter with a kernel of ``side`` pixels; OpenCV filters cannot wrap around by themselves."""
    if side == 1:
        return image.copy()
    if padding == "circular":
        reach = side // 2
        extended = cv2.copyMakeBorder(image, reach, reach, reach, reach, cv2.BORDER_WRAP)
        blurred = convolve(extended, cv2.BORDER_REFLECT_101).reshape(*extended.shape[:2], image.shape[2])
        blurred = blurred[reach:-reach, reach:-reach]
    else:
        blurred = convolve(image, _BORDERS[padding])
    # rounding may leave the range by one unit in the last place
    return np.clip(blurred.reshape(image.shape), 0, 1)
