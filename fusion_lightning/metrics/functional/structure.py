"""Metrics on local moments: visual information fidelity and structural similarity."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import gaussian, separable
from .images import fusion_score

Reduction = Literal["sum", "mean"]


@fusion_score(smallest=41)
def vif(fused: Tensor, source_a: Tensor, source_b: Tensor, *, reduction: Reduction = "sum") -> Tensor:
    """Visual information fidelity in the pixel domain (Sheikh and Bovik 2006), over the two sources; >= 0.

    vifp(X, F) = sum log10(1 + g² s_X / (s_v + 2)) / sum log10(1 + s_X / 2) over four scales of valid Gaussian
    windows 17, 9, 5 and 3 wide on grey levels 0..255. 2 for identical images (1 with the mean), higher is better.
    NaN when a source is constant.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1], at least 41x41 pixels.
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        reduction: `sum` over the two sources as in the papers' tables, or `mean`.

    Returns:
        One value per image, (B,).
    """
    # a common offset changes no variance and keeps float32 accurate
    fused, sources = fused - 128, [source_a - 128, source_b - 128]
    kept, held = [[0, 0], [0, 0]], None
    kept = [torch.zeros((), dtype=fused.dtype, device=fused.device) for _ in sources]
    held = list(kept)
    for size in (17, 9, 5, 3):
        taps = gaussian(size, size / 5)
        if size < 17:
            fused, *sources = (separable(image, taps)[:, ::2, ::2] for image in (fused, *sources))
        fused_mean = separable(fused, taps)
        fused_variance = separable(fused * fused, taps) - fused_mean * fused_mean
        for i, source in enumerate(sources):
            mean = separable(source, taps)
            variance = separable(source * source, taps) - mean * mean
            covariance = separable(source * fused, taps) - mean * fused_mean
            information, total = _fidelity(variance, fused_variance, covariance)
            kept[i] = kept[i] + information
            held[i] = held[i] + total
    return _reduce(kept[0] / held[0], kept[1] / held[1], reduction)


@fusion_score(smallest=1)
def ssim(
    fused: Tensor,
    source_a: Tensor,
    source_b: Tensor,
    *,
    reduction: Reduction = "sum",
    data_range: float = 255.0,
) -> Tensor:
    """Structural similarity (Wang et al. 2004) over the two sources; -2..2 (-1..1 with the mean), higher is better.

    11x11 Gaussian window of sigma 1.5, the border replicated, mean over all pixels, on grey levels 0..255.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1].
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        reduction: `sum` over the two sources as in the papers' tables, or `mean`.
        data_range: L in C1 = (0.01 L)², C2 = (0.03 L)². 1 is what MATLAB's `ssim` assumes for doubles in 0..255.

    Returns:
        One value per image, (B,).
    """
    taps = gaussian(11, 1.5)
    fused, *sources = (F.pad(x[:, None], (5, 5, 5, 5), mode="replicate")[:, 0] for x in (fused, source_a, source_b))
    fused_mean = separable(fused, taps)
    fused_variance = separable(fused * fused, taps) - fused_mean * fused_mean
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for source in sources:
        mean = separable(source, taps)
        variance = separable(source * source, taps) - mean * mean
        product = mean * fused_mean
        covariance = separable(source * fused, taps) - product
        luminance = (2 * product + c1) / (mean * mean + fused_mean * fused_mean + c1)
        values.append((luminance * (2 * covariance + c2) / (variance + fused_variance + c2)).mean((1, 2)))
    return _reduce(*values, reduction)


def _reduce(value_a: Tensor, value_b: Tensor, reduction: Reduction) -> Tensor:
    if reduction not in ("sum", "mean"):
        raise ValueError(f"`reduction` must be 'sum' or 'mean', but got {reduction!r}")
    return value_a + value_b if reduction == "sum" else (value_a + value_b) / 2


def _fidelity(variance: Tensor, fused_variance: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Information that arrives and information there was, summed over one scale's windows: (B,) each."""
    tiny = 1e-10
    variance, fused_variance = variance.clamp(min=0), fused_variance.clamp(min=0)
    gain = covariance / (variance + tiny)
    noise = fused_variance - gain * covariance
    flat = variance < tiny
    gain, noise = gain.masked_fill(flat, 0), torch.where(flat, fused_variance, noise)
    variance = variance.masked_fill(flat, 0)
    flat = fused_variance < tiny
    gain, noise = gain.masked_fill(flat, 0), noise.masked_fill(flat, 0)
    opposed = gain < 0
    noise = torch.where(opposed, fused_variance, noise).clamp(min=tiny)
    gain = gain.masked_fill(opposed, 0)
    information = torch.log10(1 + gain * gain * variance / (noise + 2)).sum((1, 2))
    return information, torch.log10(1 + variance / 2).sum((1, 2))
