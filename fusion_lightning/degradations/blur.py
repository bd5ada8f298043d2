"""Blurs: convolutions with a Gaussian, a line or a disk."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength
from fusion_lightning.imaging import kernels

_BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "zero": cv2.BORDER_CONSTANT, "circular": cv2.BORDER_WRAP}

_LARGEST_DIRECT = 11
"""Side of the largest kernel that OpenCV applies directly."""


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
    sigma: Annotated[Strength, Bounds(high=100)] = (1.0, 3.0)
    padding: Literal["reflect", "zero", "circular"] = "reflect"

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Convolve rows and columns with the Gaussian, cut at five deviations."""
        taps = kernels.gaussian_taps(params["sigma"])
        if params["padding"] == "circular":
            reach = len(taps) // 2
            return _crop(cv2.sepFilter2D(_extend(image, reach, "circular"), -1, taps, taps), reach, image)
        return _crop(cv2.sepFilter2D(image, -1, taps, taps, borderType=_BORDERS[params["padding"]]), 0, image)


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
    length: Annotated[Strength, Bounds(low=1, high=500)] = (7.0, 20.0)
    angle: Annotated[Strength, Bounds(low=-360, high=360)] = (0.0, 180.0)
    padding: Literal["reflect", "zero", "circular"] = "reflect"

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
    radius: Annotated[Strength, Bounds(high=100)] = (2.0, 5.0)
    padding: Literal["reflect", "zero", "circular"] = "reflect"

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Convolve with a disk."""
        return _convolve(image, kernels.disk(params["radius"]), params["padding"])


def _convolve(image: np.ndarray, kernel: np.ndarray, padding: str) -> np.ndarray:
    """Convolve with a point-symmetric kernel; correlation, which OpenCV computes, is then the same."""
    reach = len(kernel) // 2
    if len(kernel) <= _LARGEST_DIRECT:
        return _crop(cv2.filter2D(_extend(image, reach, padding), -1, kernel), reach, image)
    # a product of spectra; OpenCV's filter does the same for large kernels, five times as slowly
    height, width = (cv2.getOptimalDFTSize(side + 2 * reach) for side in image.shape[:2])
    embedded = np.zeros((height, width), np.float32)
    embedded[: len(kernel), : len(kernel)] = kernel
    spectrum = cv2.dft(embedded)
    extended = _extend(image, reach, padding, below=height - image.shape[0], beside=width - image.shape[1])
    inverse = cv2.DFT_INVERSE | cv2.DFT_REAL_OUTPUT | cv2.DFT_SCALE
    planes = [cv2.dft(cv2.mulSpectrums(cv2.dft(plane), spectrum, 0), flags=inverse) for plane in cv2.split(extended)]
    # the kernel's origin lies `reach` inside its corner, which moves the result as far again
    return _crop(cv2.merge(planes)[reach:, reach:], reach, image)


def _extend(image: np.ndarray, reach: int, padding: str, below: int = 0, beside: int = 0) -> np.ndarray:
    """Put a border around the image: ``reach`` pixels, or so many that ``below`` and ``beside`` are added in all."""
    below, beside = max(below - reach, reach), max(beside - reach, reach)
    return np.asarray(cv2.copyMakeBorder(image, reach, below, reach, beside, _BORDERS[padding]))


def _crop(extended: np.ndarray, reach: int, image: np.ndarray) -> np.ndarray:
    """Cut the border off, in place; rounding may have left [0, 1] by a unit in the last place."""
    height, width = image.shape[:2]
    inside = extended[reach : reach + height, reach : reach + width].reshape(image.shape)
    return np.clip(inside, 0, 1, out=inside)
