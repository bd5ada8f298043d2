"""Resizing images to one size (bicubic)."""

import torch.nn.functional as F
from torch import Tensor


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge an image (B, C, h, w) in [0, 1] to (B, C, H, W), bicubic; one of that size stays as it is."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0, 1)


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarge the image of lower resolution (bicubic) to the size of the other; (B, C, H, W) in [0, 1]."""
    size = (max(a.shape[-2], b.shape[-2]), max(a.shape[-1], b.shape[-1]))
    return enlarge(a, size), enlarge(b, size)
