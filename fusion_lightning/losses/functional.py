"""Loss functions: CLED-Fusion's (15)–(18), DRFusion's (21)–(24). All in float32, also under mixed precision."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import check_choice
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma

ResidualNorm = Literal["l1", "l2", "balanced"]
GradientNorm = Literal["l1", "l2"]

_SCALE_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of multi-scale SSIM, from the finest scale."""

_EPSILON = 1e-6
"""Added under the root of the gradient magnitude, whose slope is infinite at zero, and flat regions are common.
It changes magnitudes by at most 1e-3, a sixteenth of the edge that one grey level in 255 makes."""


def residual_loss(predicted: Tensor, target: Tensor, norm: ResidualNorm = "l1") -> Tensor:
    """Mean distance of a predicted residual (or noise) (B, C, H, W) from the true one.

    `l1` is (15), `l2` is (8)(9). `balanced` is the L1 plus a tenth of each image's log(MSE + 1e-3), its PSNR up to sign
    and unit. Low-light errors are about 100 times those of noise and dominate the L1, whose optimum is then to change
    nothing; the log term weighs each image by its PSNR.

    Raises:
        UserError: If `norm` is none of the three.
    """
    check_choice("norm", norm, ResidualNorm)
    error = predicted.float() - target.float()
    if norm == "l2":
        return error.square().mean()
    distance = error.abs().mean()
    if norm == "balanced":
        distance = distance + 0.1 * (error.square().flatten(1).mean(dim=1) + 1e-3).log().mean()
    return distance


def intensity_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Intensity loss (16), mean|I_f − max(I_a, I_b)|, on the luma of images (B, 1 or 3, H, W) in [0, 1]."""
    return F.l1_loss(rgb_to_luma(fused.float()), torch.maximum(rgb_to_luma(a.float()), rgb_to_luma(b.float())))


def gradient_loss(fused: Tensor, a: Tensor, b: Tensor, norm: GradientNorm = "l2") -> Tensor:
    """Gradient loss, mean| |∇I_f| − max(|∇I_a|, |∇I_b|) |, on the luma of images (B, 1 or 3, H, W) in [0, 1].

    CLED-Fusion's (17) with the length of the gradient (`l2`), DRFusion's (23) with |g_x| + |g_y| (`l1`).
    """
    magnitudes = (sobel_magnitude(rgb_to_luma(image.float()), norm) for image in (a, b))
    return F.l1_loss(sobel_magnitude(rgb_to_luma(fused.float()), norm), torch.maximum(*magnitudes))


def enhanced_gradient_loss(fused: Tensor, a: Tensor, b: Tensor, exponent: float) -> Tensor:
    """Mean |∇²f − sign(g) |g|^exponent|, with g the larger ∇² of grey sources (B, 1, H, W) at each pixel (MURF)."""
    of_a, of_b = laplacian(a), laplacian(b)
    larger = torch.where(of_a.abs() > of_b.abs(), of_a, of_b)
    return (laplacian(fused) - larger.sign() * larger.abs().pow(exponent)).abs().mean()


def color_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Colour loss (18), mean|CbCr(I_f) − CbCr(I_color)|, on images (B, 1 or 3, H, W) in [0, 1].

    I_color is whichever source has three channels: the visible image, or in medicine PET or SPECT. Where neither has,
    the reference is grey.
    """
    # A grey image's chroma is 0.5 everywhere, so the sum of deviations is the colour source's own.
    return F.l1_loss(rgb_to_cbcr(fused.float()), rgb_to_cbcr(a.float()) + rgb_to_cbcr(b.float()) - 0.5)


def both_intensities_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """DRFusion's intensity loss for medicine, mean|I_f − I_a| + mean|I_f − I_b| (24), on luma as `intensity_loss`."""
    fused = rgb_to_luma(fused.float())
    return F.l1_loss(fused, rgb_to_luma(a.float())) + F.l1_loss(fused, rgb_to_luma(b.float()))


def structure_loss(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """DRFusion's structure loss for medicine, 2 − SSIM(I_f, I_a) − SSIM(I_f, I_b) (24), on luma as `intensity_loss`."""
    fused = rgb_to_luma(fused.float())
    return (
        2 - structural_similarity(fused, rgb_to_luma(a.float())) - structural_similarity(fused, rgb_to_luma(b.float()))
    ).mean()


def sobel(image: Tensor) -> Tensor:
    """Sobel gradient (g_x, g_y), (B, 2, H, W), of grey images (B, 1, H, W), borders repeated; 4 at a unit step edge."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack((kernel, kernel.T))[:, None]
    with torch.autocast(image.device.type, enabled=False):
        return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernels)


def sobel_magnitude(image: Tensor, norm: GradientNorm = "l2") -> Tensor:
    """Size of the Sobel gradient of grey images (B, 1, H, W): `l2` is its length, `l1` |g_x| + |g_y|."""
    gradient = sobel(image)
    if norm == "l1":
        return gradient.abs().sum(dim=1, keepdim=True)
    return (gradient.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()


def laplacian(image: Tensor) -> Tensor:
    """Sum of the four neighbours less four times the middle, borders repeated; (B, C, H, W)."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return across + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] - 4 * image


def structural_similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of grey images (B, 1, H, W) in [0, 1] as published (Wang et al., 2004), (B,): 11 × 11 Gaussian, σ 1.5.

    Windows lie inside the image; the window is smaller on images that are.
    """
    luminance, structure = _similarity(x, y)
    return (luminance * structure).mean(dim=(1, 2, 3))


def multi_scale_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale SSIM of grey images (B, 1, H, W) in [0, 1], (B,): five scales, or as many as hold a window.

    Contrast and structure at every scale and the luminance at the coarsest, each to its published power (Wang et al.,
    2003); with fewer scales the powers are divided by their sum. 2 × 2 means between the scales.
    """
    count = 1
    while count < len(_SCALE_POWERS) and min(x.shape[-2:]) >> count >= 11:
        count += 1
    result = x.new_ones(len(x))
    for scale in range(count):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        luminance, structure = _similarity(x, y)
        value = (luminance * structure if scale == count - 1 else structure).mean(dim=(1, 2, 3))
        # a negative similarity counts as none; the slope of a power at zero has no bound
        result = result * value.clamp(min=1e-4) ** (_SCALE_POWERS[scale] / sum(_SCALE_POWERS[:count]))
    return result


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM's two factors, of luminance and of contrast and structure, at every window inside the image."""
    c1, c2 = 0.01**2, 0.03**2
    reach = min(5, (min(x.shape[-2:]) - 1) // 2)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype) / 1.5) ** 2)
    taps = taps / taps.sum()
    moments = torch.cat((x, y, x * x, y * y, x * y), dim=1)
    with torch.autocast(x.device.type, enabled=False):
        for kernel in (taps[:, None], taps[None, :]):
            moments = F.conv2d(moments, kernel.expand(moments.shape[1], 1, -1, -1), groups=moments.shape[1])
    mean_x, mean_y, square_x, square_y, product = moments.split(1, dim=1)
    variances = square_x + square_y - mean_x * mean_x - mean_y * mean_y
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)
