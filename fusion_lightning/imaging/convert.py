"""Conversion between image arrays (H, W, C) and tensors (C, H, W)."""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_lightning.errors import check_choice

COLORMAPS = {"hot": cv2.COLORMAP_HOT, "jet": cv2.COLORMAP_JET, "inferno": cv2.COLORMAP_INFERNO}
COLORMAPS |= {"magma": cv2.COLORMAP_MAGMA, "viridis": cv2.COLORMAP_VIRIDIS, "turbo": cv2.COLORMAP_TURBO}
"""Palettes by name."""


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn an image (H, W) or (H, W, C), float in [0, 1] or uint8, into a tensor (C, H, W), float32 in [0, 1]."""
    if image.ndim == 2:
        image = image[..., None]
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.float().div_(255) if image.dtype == np.uint8 else tensor.float()


def to_image(tensor: Tensor, bits: Literal[8, 16] = 8) -> np.ndarray:
    """Turn a tensor (C, H, W) in [0, 1] into an image (H, W) or (H, W, 3), uint8 or uint16, rounded and clipped."""
    levels = tensor.detach().float().clamp(0, 1).mul(2**bits - 1).round().permute(1, 2, 0).cpu().numpy()
    image = levels.astype(np.uint8 if bits == 8 else np.uint16)
    return image[..., 0] if image.shape[-1] == 1 else image


def to_float(image: np.ndarray) -> np.ndarray:
    """An image as float32 in [0, 1]; uint8 is divided by 255."""
    return (
        image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    )


def colorize(image: np.ndarray, palette: str) -> np.ndarray:
    """Draw a grey image (H, W, 1) in a palette, as RGB (H, W, 3), float32 in [0, 1], between its 256 colours linear.

    Raises:
        UserError: If there is no such palette.
    """
    check_choice("colormap", palette, COLORMAPS)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], COLORMAPS[palette])[:, 0, ::-1] / 255.0
    levels = 255 * to_float(image)[..., 0]
    channels = [np.interp(levels, np.arange(256), table[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)
