"""Perceptual metrics: contrast sensitivity by spatial frequency."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.metrics.functional.filters import separable, sobel
from fusion_lightning.metrics.functional.images import fusion_score, stretch

_BLOCK = 16


@fusion_score()
def q_cb(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Chen and Blum's perceptual metric (2009); 0..1, higher is better.

    Images are filtered by the contrast sensitivity exp(-(r / 15.387)²) - 0.7622 exp(-(r / 1.3456)²); the contrast
    c = |G_2 * Y / G_4 * Y - 1| of two Gaussians is masked, P = c³ / (c² + 1e-4); Q_CB is the mean of
    l_A Q_A + l_B Q_B with Q_X = min(P_X, P_F) / max(P_X, P_F) and l_X = P_X² / (P_A² + P_B²). NaN when an image is
    constant. Computed in float64, because the ratio of two small numbers decides in dark areas.
    """

    def sensitivity(radius: Tensor) -> Tensor:
        return torch.exp(-((radius / 15.3870) ** 2)) - 0.7622 * torch.exp(-((radius / 1.3456) ** 2))

    response = _frequency_response(fused, 30, sensitivity)
    masked_f, masked_a, masked_b = (
        _masked_contrast(torch.fft.irfft2(torch.fft.rfft2(stretch(image).double()) * response, s=image.shape[1:]))
        for image in (fused, source_a, source_b)
    )
    kept = weight = torch.zeros_like(masked_f)
    for masked in (masked_a, masked_b):
        preserved = torch.minimum(masked, masked_f) / torch.maximum(masked, masked_f)
        kept = kept + masked.square() * preserved
        weight = weight + masked.square()
    return (kept / weight).mean((1, 2))


@fusion_score()
def q_cv(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Chen and Varshney's perceptual error (2007); >= 0, unbounded, lower is better.

    Mean squared difference to either source after the contrast sensitivity 2.6 (0.0192 + 0.144 r)
    exp(-(0.144 r)^1.1), in 16x16 blocks weighted by their saliency, the sum of the source's gradient^5. NaN when an
    image is constant and not black, or when both sources are black.
    """

    def sensitivity(radius: Tensor) -> Tensor:
        return 2.6 * (0.0192 + 0.144 * radius) * torch.exp(-((0.144 * radius) ** 1.1))

    response = _frequency_response(fused, 8, sensitivity).to(fused.dtype)
    stretched = stretch(fused)
    error = weight = torch.zeros((), dtype=torch.float64, device=fused.device)
    for source in (stretch(source_a), stretch(source_b)):
        x, y = sobel(F.pad(source, (1, 1, 1, 1)))
        power = x * x + y * y
        saliency = _block_means(power.square() * power.sqrt())
        difference = torch.fft.irfft2(torch.fft.rfft2(source - stretched) * response, s=fused.shape[1:])
        error = error + (saliency * _block_means(difference.square())).sum((1, 2), dtype=torch.float64)
        weight = weight + saliency.sum((1, 2), dtype=torch.float64)
    return error / weight


def _frequency_response(image: Tensor, divisor: float, sensitivity: Callable[[Tensor], Tensor]) -> Tensor:
    """Sensitivity on the half plane of `rfft2`, at frequencies -1..1 times side / divisor."""
    height, width = image.shape[1:]
    options = {"dtype": torch.float64, "device": image.device}
    v = 2 * torch.fft.fftfreq(height, **options)[:, None] * (height / divisor)
    u = 2 * torch.fft.rfftfreq(width, **options) * (width / divisor)
    return sensitivity((u * u + v * v).sqrt())


def _masked_contrast(image: Tensor) -> Tensor:
    padded = F.pad(image, (15, 15, 15, 15))
    contrast = separable(padded, _normal(2)).div_(separable(padded, _normal(4))).sub_(1)
    squared = contrast.square()
    return contrast.abs_().mul_(squared).div_(squared + 1e-4)


def _normal(sigma: float) -> tuple[float, ...]:
    """The normal density at -15..15; unlike the metrics' other windows not divided by its sum."""
    return tuple(math.exp(-(x**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma) for x in range(-15, 16))


def _block_means(maps: Tensor) -> Tensor:
    """Means of 16x16 blocks, incomplete ones padded with 0."""
    height, width = maps.shape[1:]
    return F.avg_pool2d(F.pad(maps, (0, -width % _BLOCK, 0, -height % _BLOCK))[:, None], _BLOCK)[:, 0]
