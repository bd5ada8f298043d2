"""Full-reference scores of one image against the clean image it should have become."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.metrics.functional.filters import gaussian, local_moments
from fusion_lightning.metrics.functional.structure import ssim_map


def psnr_to(image: Tensor, clean: Tensor) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(255² / MSE on 0..255) over all channels; dB, infinite when equal.

    Args:
        image: Restored or fused images (B, C, H, W) in [0, 1].
        clean: The clean images, the same shape.

    Returns:
        One value per image, (B,).
    """
    _check(image, clean)
    return -10 * torch.log10((image.double() - clean.double()).square().mean((1, 2, 3))).to(image.dtype)


def ssim_to(image: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity, the mean over channels; -1..1, 1 when equal.

    The window and the constants of `ssim`: 11x11 Gaussian of sigma 1.5, border replicated, L = 255. In float64.

    Args:
        image: Restored or fused images (B, C, H, W) in [0, 1].
        clean: The clean images, the same shape.

    Returns:
        One value per image, (B,).
    """
    _check(image, clean)
    values = []
    for pair in zip(image * 255, clean * 255, strict=True):
        padded = [F.pad(x, (5, 5, 5, 5), mode="replicate") for x in pair]
        windows = local_moments(padded, ((0, 1),), gaussian(11, 1.5))
        total = sum((ssim_map(moments, 0, 1, 0, 6.5025, 58.5225).sum() for moments in windows), torch.zeros(()))
        values.append(total / pair[0].numel())
    return torch.stack(values).to(image.dtype)


def _check(image: Tensor, clean: Tensor) -> None:
    if image.ndim != 4 or image.shape != clean.shape:
        raise ValueError(
            f"`image` and `clean` must have one shape (B, C, H, W), but got {tuple(image.shape)} and "
            f"{tuple(clean.shape)}"
        )
