"""Effects from albumentations: JPEG compression and ISO noise.

Its blurs, noises, haze and rain are not used: they have no choice of border, no parameters a linear operator could be
rebuilt from, or cost up to a hundred times as much.
"""

import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength


@dataclass(frozen=True)
class Borrowed(Degradation):
    """An albumentations transform with fixed strengths and a seed of its own."""

    random: ClassVar[bool] = True

    @abstractmethod
    def transform(self, params: Params) -> tuple[str, dict[str, Any]]:
        """Name and arguments of the albumentations transform."""

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Run the transform on the image in 8-bit RGB; a grey image keeps the mean of the channels."""
        # albumentations asks the network for a newer version of itself when it is imported
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations  # half a second, which runs without these effects should not pay

        name, arguments = self.transform(params)
        transform = getattr(albumentations, name)(**arguments, p=1.0)
        transform.set_random_seed(params.get("seed"))
        channels = image.shape[2]
        stored = np.rint(image * 255).astype(np.uint8)
        changed = transform(image=np.repeat(stored, 3, axis=2) if channels == 1 else stored)["image"]
        result = changed.astype(np.float32) / np.float32(255)
        return result if channels == 3 else result.mean(axis=2, keepdims=True)


@dataclass(frozen=True)
class Jpeg(Borrowed):
    """Artefacts of JPEG compression.

    Args:
        quality: JPEG quality from 1 to 100, a whole number.
    """

    name: ClassVar[str] = "jpeg"
    random: ClassVar[bool] = False
    severities: ClassVar[tuple[Params, ...]] = tuple({"quality": quality} for quality in (60, 35, 20, 10, 5))
    quality: Annotated[Strength, Bounds(low=1, high=100, whole=True)] = (10, 50)

    def transform(self, params: Params) -> tuple[str, dict[str, Any]]:
        """Compress and decompress."""
        return "ImageCompression", {"quality_range": (params["quality"],) * 2}


@dataclass(frozen=True)
class IsoNoise(Borrowed):
    """Noise of a camera at a high ISO setting: brightness and hue flicker.

    Args:
        intensity: Strength of both.
    """

    name: ClassVar[str] = "iso_noise"
    severities: ClassVar[tuple[Params, ...]] = tuple({"intensity": value} for value in (0.05, 0.1, 0.18, 0.28, 0.4))
    intensity: Annotated[Strength, Bounds(high=1)] = (0.05, 0.3)

    def transform(self, params: Params) -> tuple[str, dict[str, Any]]:
        """Hue shift a tenth of the intensity."""
        strength = params["intensity"]
        return "ISONoise", {"color_shift": (strength / 10,) * 2, "intensity": (strength,) * 2}
