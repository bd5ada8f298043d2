"""Visual information fidelity and structural similarity, on local moments."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import check_choice
from fusion_lightning.metrics.functional.filters import (
    Moments,
    gaussian,
    local_moments,
    separable,
    sum_up,
    working_type,
)
from fusion_lightning.metrics.functional.images import fusion_score

Reduction = Literal["sum", "mean"]


@fusion_score(smallest=41)
def vif(fused: Tensor, source_a: Tensor, source_b: Tensor, *, reduction: Reduction = "sum") -> Tensor:
    """Visual information fidelity in the pixel domain (Sheikh and Bovik 2006) over the two sources; >= 0.

    vifp(X, F) = sum log10(1 + g² s_X / (s_v + 2)) / sum log10(1 + s_X / 2) over four scales of valid Gaussian
    windows 17, 9, 5 and 3 wide on grey levels 0..255, where F = g X + v locally. 2 for identical images (1 with the
    mean), higher is better. NaN when a source is constant.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1], at least 41x41 pixels.
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        reduction: `sum` over the two sources as in the papers' tables, or `mean`.

    Returns:
        One value per image, (B,).
    """
    images, dtype = [fused, source_a, source_b], working_type(fused)
    arrived, held = fused.new_zeros(2, 1, dtype=torch.float64), fused.new_zeros(2, 1, dtype=torch.float64)
    for size in (17, 9, 5, 3):
        taps = gaussian(size, size / 5)
        if size < 17:
            images = [separable(image.to(dtype), taps, stride=2).contiguous() for image in images]
            # beside flat areas the coarser scales, which are small, hold variances that float32 would lose
            dtype = torch.float64
        for moments in local_moments(images, ((0, 1), (0, 2)), taps, dtype):
            information = [_information(moments, source) for source in (1, 2)]
            arrived = arrived + torch.stack([x[0] for x in information])
            held = held + torch.stack([x[1] for x in information])
    return _reduce(arrived / held, reduction)


def _information(moments: Moments, source: int) -> tuple[Tensor, Tensor]:
    """Information of a source that arrives in the fused image, and what there was, summed over windows: (B,) each."""
    tiny = 1e-10
    # Flat windows hold exactly nothing, so that a constant source is undefined; in float32 what is below the rounding
    # counts as flat. Where the fused image is flat or runs against the source, nothing arrives.
    flat = tiny if moments.means[0].dtype == torch.float64 else 1e-4
    variance, covariance = F.threshold(moments.variances[source], flat, 0), moments.covariances[source - 1]
    gain = (covariance / (variance + tiny)).clamp(min=0)
    # no covariance is larger than the variances allow; rounded ones are, and what is left would be less than no noise
    noise = (2 + moments.variances[0]).addcmul_(gain, covariance, value=-1).clamp_(min=2)
    arrived = (gain * gain).mul_(variance).div_(noise).add_(1).log_()
    return sum_up(arrived), sum_up((variance / 2).add_(1).log_())


@fusion_score()
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
    padded = [F.pad(x[:, None], (5, 5, 5, 5), mode="replicate")[:, 0] for x in (fused, source_a, source_b)]
    return _reduce(_mean_similarity(padded, (0.01 * data_range) ** 2, (0.03 * data_range) ** 2), reduction)


@fusion_score(smallest=176)
def ms_ssim(
    fused: Tensor,
    source_a: Tensor,
    source_b: Tensor,
    *,
    reduction: Reduction = "sum",
    border: Literal["reflect", "valid"] = "reflect",
) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) over the two sources; 0..2, higher is better.

    Product over five scales of contrast-structure^w, times luminance^w at the coarsest: 11x11 Gaussian window of
    sigma 1.5, 2x2 means between scales, levels 0..255; a negative scale counts as 0.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1], at least 176x176 pixels.
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        reduction: `sum` over the two sources, or `mean`.
        border: Finer scales leave the border out. At the coarsest, `reflect` continues the image there, as
            torchmetrics does; `valid` leaves it out there too, as Wang's own code does: a few per cent apart.

    Returns:
        One value per image, (B,).
    """
    check_choice("border", border, ("reflect", "valid"))
    images = [fused, source_a, source_b]
    values = fused.new_ones(2, 1, dtype=torch.float64)
    for weight in (0.0448, 0.2856, 0.3001, 0.2363):
        values = values * _mean_similarity(images, luminance=False).clamp(min=0) ** weight
        images = [F.avg_pool2d(image, 2) for image in images]
    if border == "reflect":
        images = list(F.pad(torch.stack(images), (5, 5, 5, 5), mode="reflect"))
    return _reduce(values * _mean_similarity(images).clamp(min=0) ** 0.1333, reduction)


def _mean_similarity(
    images: Sequence[Tensor], c1: float = 6.5025, c2: float = 58.5225, luminance: bool = True
) -> Tensor:
    """Mean SSIM over the valid 11x11 windows between the fused image and either source: (2, B)."""
    total = images[0].new_zeros(2, 1, dtype=torch.float64)
    # a small constant lets the rounding of float32 decide in flat windows
    dtype = working_type(images[0]) if c2 > 1 else torch.float64
    for moments in local_moments(images, ((0, 1), (0, 2)), gaussian(11, 1.5), dtype):
        maps = (ssim_map(moments, 0, source, source - 1, c1, c2, luminance) for source in (1, 2))
        total = total + torch.stack([sum_up(values) for values in maps])
    return total / ((images[0].shape[1] - 10) * (images[0].shape[2] - 10))


def ssim_map(
    moments: Moments, first: int, second: int, pair: int, c1: float, c2: float, luminance: bool = True
) -> Tensor:
    """SSIM in every window of two of the images, given which of the covariances is theirs."""
    similar = (2 * moments.covariances[pair]).add_(c2)
    similar.div_((moments.variances[first] + moments.variances[second]).add_(c2))
    if luminance:
        x, y = moments.means[first], moments.means[second]
        similar.mul_((x * y).mul_(2).add_(c1)).div_((x * x).addcmul_(y, y).add_(c1))
    return similar


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """Sum or mean over the two sources of values (2, B)."""
    check_choice("reduction", reduction, Reduction)
    return values.sum(0) if reduction == "sum" else values.mean(0)
