"""Loss functions: CLED-Fusion's (15)–(18). Everything is computed in float32, also under mixed precision."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.color import chroma, luma
from fusion_lightning.errors import UserError

ResidualNorm = Literal["l1", "l2"]

_EPSILON = 1e-6
"""Added under the root of the gradient magnitude, whose slope is infinite at zero, and flat regions are common.
It changes magnitudes by at most 1e-3, a sixteenth of the edge that one grey level in 255 makes."""


def residual_loss(predicted: Tensor, target: Tensor, norm: ResidualNorm = "l1") -> Tensor:
    """Mean distance of a predicted residual (or noise) from the true one: L1 (15), or L2 as in (8)(9).

    Raises:
        UserError: If `norm` is neither `l1` nor `l2`.
    """
    if norm not in get_args(ResidualNorm):
        raise UserError(f"`norm` must be one of {', '.join(get_args(ResidualNorm))}, but got {norm!r}")
    distance = F.l1_loss if norm == "l1" else F.mse_loss
    return distance(predicted.float(), target.float())


def intensity_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Intensity loss (16), mean|I_f − max(I_a, I_b)|, on the luma of images (B, 1 or 3, H, W) in [0, 1]."""
    return F.l1_loss(luma(fused.float()), torch.maximum(luma(a.float()), luma(b.float())))


def gradient_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Gradient loss (17), mean| |∇I_f| − max(|∇I_a|, |∇I_b|) |, on the luma of images (B, 1 or 3, H, W) in [0, 1]."""
    magnitudes = (sobel_magnitude(luma(image.float())) for image in (a, b))
    return F.l1_loss(sobel_magnitude(luma(fused.float())), torch.maximum(*magnitudes))


def color_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Colour loss (18), mean|CbCr(I_f) − CbCr(I_color)|, on images (B, 1 or 3, H, W) in [0, 1].

    I_color is whichever source has three channels: the visible image, or in medicine PET or SPECT. Where neither has,
    the reference is grey.
    """
    # A grey image's chroma is 0.5 everywhere, so the sum of deviations is the colour source's own.
    return F.l1_loss(chroma(fused.float()), chroma(a.float()) + chroma(b.float()) - 0.5)


def sobel_magnitude(image: Tensor) -> Tensor:
    """Length of the Sobel gradient of grey images (B, 1, H, W), borders repeated; a unit step edge has length 4."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack((kernel, kernel.T))[:, None]
    gradient = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)
    return (gradient.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()
