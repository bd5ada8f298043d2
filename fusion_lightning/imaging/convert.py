"""Conversion between image arrays (H, W, C) and tensors (C, H, W)."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn an image (H, W) or (H, W, C), float in [0, 1] or uint8, into a tensor (C, H, W), float32 in [0, 1]."""
    if image.ndim == 2:
        image = image[..., None]
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return tensor.float().div_(255) if image.dtype == np.uint8 else tensor.float()


def to_image(tensor: Tensor) -> np.ndarray:
    """Turn a tensor (C, H, W) in [0, 1] into an 8-bit image (H, W) or (H, W, 3), rounded and clipped."""
    image = tensor.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[-1] == 1 else image


def grey_if_equal(image: np.ndarray) -> np.ndarray:
    """One channel (H, W, 1) of an image (H, W, 3) whose channels are all the same, else the image itself."""
    return image[..., :1] if (image == image[..., :1]).all() else image
