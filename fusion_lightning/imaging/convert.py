"""Conversion between image arrays (H, W, C) and tensors (C, H, W)."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor


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
