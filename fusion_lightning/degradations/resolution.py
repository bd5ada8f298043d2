"""Sampling: fewer pixels, fewer grey levels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cv2
import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength
from fusion_lightning.imaging.io import resize_image


@dataclass(frozen=True)
class Downsample(Degradation):
    """Downsampling: low resolution.

    Args:
        factor: How many pixels become one, in each direction; a whole number.
        method: ``area`` averages blocks of factor × factor pixels (at the lower and right edge of what is there);
            ``cubic`` samples a cubic interpolation, without smoothing first.
        up: Whether the image is brought back to its size, by cubic interpolation. Otherwise it stays small,
            ⌈H / factor⌉ × ⌈W / factor⌉.
    """

    name: ClassVar[str] = "downsample"
    severities: ClassVar[tuple[Params, ...]] = tuple({"factor": factor, "up": True} for factor in (2, 3, 4, 6, 8))
    factor: Annotated[Strength, Bounds(low=1, high=64, whole=True)] = 4
    method: Literal["area", "cubic"] = "area"
    up: bool = False

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Average or sample, and enlarge if asked."""
        height, width, _ = image.shape
        factor = int(params["factor"])
        small = _average(image, factor) if params["method"] == "area" else _cubic(image, factor)
        if params["up"]:
            whole = (small.shape[0] * factor, small.shape[1] * factor)  # the last blocks can reach beyond the image
            small = resize_image(small, whole)[:height, :width]
        return np.clip(small, 0, 1)


@dataclass(frozen=True)
class Quantize(Degradation):
    """Quantisation to 256 grey levels, as in an 8-bit file.

    Args:
        rounding: ``nearest`` level, or ``down``, as files written by truncation have it.
    """

    name: ClassVar[str] = "quantize"
    severities: ClassVar[tuple[Params, ...]] = tuple({"levels": levels} for levels in (64, 32, 16, 8, 4))
    levels: Annotated[Strength, Bounds(low=2, high=65536, whole=True)] = 256
    rounding: Literal["nearest", "down"] = "nearest"

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Round."""
        top = np.float32(params["levels"] - 1)
        # a stored level k comes back as k / 255 · 255, which float32 may put just below k: a quarter of a
        # thousandth of a level keeps it, and is far below what any image resolves
        offset = np.float32(0.5 if params["rounding"] == "nearest" else 2.5e-4)
        return np.floor(image * top + offset) / top


def _average(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean of every block; the last ones average the pixels they have."""
    height, width, channels = image.shape
    below, beside = -height % factor, -width % factor
    whole = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=(0.0, 0.0, 0.0, 0.0))
    size = (whole.shape[1] // factor, whole.shape[0] // factor)
    small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], channels)
    small[-1] *= factor / (factor - below)
    small[:, -1] *= factor / (factor - beside)
    return small


def _cubic(image: np.ndarray, factor: int) -> np.ndarray:
    """A sample in the middle of every block; the last ones see the border's pixels repeated."""
    below, beside = -image.shape[0] % factor, -image.shape[1] % factor
    whole = cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    size = (whole.shape[1] // factor, whole.shape[0] // factor)
    return cv2.resize(whole, size, interpolation=cv2.INTER_CUBIC).reshape(size[1], size[0], image.shape[2])
