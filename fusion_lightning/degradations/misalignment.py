"""Misalignment: a source that does not lie on top of the other one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch, sources
from fusion_lightning.degradations.base import Bounds, Degradation, Params, Strength
from fusion_lightning.imaging import warps


@dataclass(frozen=True)
class Misalign(Degradation):
    """Misalignment: the camera stood, looked or focused otherwise; what is at p comes from M(p).

    M(p) = c + L (p − c) + t + bend(p) about the image's centre c: L shears along x, scales and turns. Interpolated
    bilinearly, the border repeated. `misalignment` rebuilds M.

    Args:
        shift: Length of t in pixels.
        direction: Its direction in degrees, clockwise from the x axis (rows count downwards).
        rotation: In degrees, clockwise.
        scale: How much is added to 1; below 0 the scene grows.
        shear: Displacement along x per pixel along y.
        bend: Root mean square length in pixels of a smooth random field, cubic between 4 × 4 points.
    """

    name: ClassVar[str] = "misalign"
    random: ClassVar[bool] = True
    severities: ClassVar[tuple[Params, ...]] = tuple(
        {
            "shift": 1.6 * level,
            "rotation": (-0.5 * level, 0.5 * level),
            "scale": (-0.01 * level, 0.01 * level),
            "shear": (-0.005 * level, 0.005 * level),
            "bend": 0.3 * level,
        }
        for level in (1.0, 2.0, 4.0, 7.0, 11.0)
    )
    shift: Annotated[Strength, Bounds(high=1000)] = (0.0, 12.0)
    direction: Annotated[Strength, Bounds(low=-360, high=360)] = (0.0, 360.0)
    rotation: Annotated[Strength, Bounds(low=-180, high=180)] = (-4.0, 4.0)
    scale: Annotated[Strength, Bounds(low=-0.9, high=9)] = (-0.06, 0.06)
    shear: Annotated[Strength, Bounds(low=-1, high=1)] = (-0.02, 0.02)
    bend: Annotated[Strength, Bounds(high=1000)] = (0.0, 3.0)

    def apply(self, image: np.ndarray, params: Params) -> np.ndarray:
        """Move the pixels."""
        x, y = misalignment(params, image.shape[:2])
        moved = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return moved.reshape(image.shape)


def misalignment(params: Params, size: Sequence[int]) -> np.ndarray:
    """The map M of `Misalign` for an image of size (H, W): (2, H, W), x and y in pixels, float32."""
    height, width = size
    turn, way = math.radians(params["rotation"]), math.radians(params["direction"])
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    linear = (1 + params["scale"]) * rotation @ np.array([[1, params["shear"]], [0, 1]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = params["shift"] * np.array([math.cos(way), math.sin(way)])
    offset = centre - linear @ centre + shift
    x, y = np.arange(width), np.arange(height)[:, None]
    moved = np.stack([row[0] * x + row[1] * y + start for row, start in zip(linear, offset, strict=True)])
    return (moved + params["bend"] * _smooth_field(height, width, params["seed"])).astype(np.float32)


def true_warps(batch: FusionBatch) -> Tensor:
    """Where each pixel of b's frame lies in source a as it was delivered, (B, 2, H, W) in pixels.

    Known from what misaligned a; b is taken to stand still. The identity where nothing did.
    """
    size = sources(batch)[1].shape[-2:]
    still = warps.identity((size[0], size[1]), batch["clean_b"].float())
    found = []
    for sample in batch["degradation"]:
        warp = still
        # aligned = clean, and the last effect is undone first: W = M_n⁻¹ … M_1⁻¹, of which M_1⁻¹ sees p
        for effect in sample["a"]:
            if effect["name"] == Misalign.name:
                moved = torch.from_numpy(misalignment(effect["params"], size))[None].to(still)
                warp = warps.compose(warps.invert(moved), warp)
        found.append(warp)
    return torch.cat(found)


def _smooth_field(height: int, width: int, seed: int) -> np.ndarray:
    """A random field (2, H, W) of root mean square length 1."""
    coarse = np.random.default_rng(seed).standard_normal((4, 4, 2)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, 2)
    return np.moveaxis(field / np.sqrt(np.square(field).sum(axis=2).mean()), 2, 0)
