"""Weighted structural similarity: each source counts by its local variance or covariance."""

import torch
from torch import Tensor

from fusion_lightning.metrics.functional.filters import Moments, gaussian, local_moments
from fusion_lightning.metrics.functional.images import fusion_score
from fusion_lightning.metrics.functional.structure import ssim_map

_PAIRS = ((0, 1), (0, 2))
# Windows of 8-bit images that are not flat have variances above 1e-6; rounding stays below 1e-10.
_FLAT = 1e-9
# (C1, C2) of the toolbox for Q_C and Q_Y: SSIM all but without its constants
_BARE = (2e-16, 2e-16)


@fusion_score(smallest=11)
def q_s(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Saliency-weighted similarity (Piella and Heijmans 2003); -1..1, higher is better.

    The mean of l SSIM(A, F) + (1 - l) SSIM(B, F) over valid 11x11 Gaussian windows of sigma 1.5, where
    l = s_A / (s_A + s_B) compares the sources' local variances. The toolbox's SSIM with L = 255, not the 8x8 quality
    index of the paper. Computed in float64.
    """
    total = torch.zeros((), dtype=torch.float64, device=fused.device)
    for moments in local_moments((fused, source_a, source_b), _PAIRS, gaussian(11, 1.5)):
        share = _share(moments)
        similar_a, similar_b = (ssim_map(moments, 0, i, i - 1, 6.5025, 58.5225) for i in (1, 2))
        total = total + (share * similar_a + (1 - share) * similar_b).sum((1, 2))
    return total / _windows(fused, 11)


@fusion_score(smallest=7)
def q_c(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Covariance-weighted similarity (Cvejic et al. 2005); -1..1, higher is better.

    The mean of s SSIM(A, F) + (1 - s) SSIM(B, F) over valid 7x7 Gaussian windows of sigma 1.5, where
    s = cov(A, F) / (cov(A, F) + cov(B, F)); 0 where s < 0 and 1 where s > 1. NaN when the fused image or both sources
    are flat in some window. Computed in float64, with flat windows exactly flat: rounding decides in the toolbox.
    """
    total = torch.zeros((), dtype=torch.float64, device=fused.device)
    for rounded in local_moments((fused, source_a, source_b), _PAIRS, gaussian(7, 1.5)):
        moments = _exact(rounded)
        share = moments.covariances[0] / (moments.covariances[0] + moments.covariances[1])
        similar_a, similar_b = (ssim_map(moments, 0, i, i - 1, *_BARE) for i in (1, 2))
        quality = share * similar_a + (1 - share) * similar_b
        total = total + quality.masked_fill(share < 0, 0).masked_fill(share > 1, 1).sum((1, 2))
    return total / _windows(fused, 7)


@fusion_score(smallest=7)
def q_y(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Yang's structural similarity metric (Yang et al. 2008); -1..1, higher is better.

    Over valid 7x7 Gaussian windows of sigma 1.5, the mean of l SSIM(A, F) + (1 - l) SSIM(B, F) with
    l = s_A / (s_A + s_B) where the sources agree (SSIM(A, B) >= 0.75), else of the larger of the two. Computed in
    float64, with flat windows exactly flat: in the toolbox, rounding decides there.
    """
    total = torch.zeros((), dtype=torch.float64, device=fused.device)
    for rounded in local_moments((fused, source_a, source_b), (*_PAIRS, (1, 2)), gaussian(7, 1.5)):
        moments = _exact(rounded)
        share = _share(moments)
        similar_a, similar_b = (ssim_map(moments, 0, i, i - 1, *_BARE) for i in (1, 2))
        agree = ssim_map(moments, 1, 2, 2, *_BARE) >= 0.75
        blend = share * similar_a + (1 - share) * similar_b
        total = total + torch.where(agree, blend, torch.maximum(similar_a, similar_b)).sum((1, 2))
    return total / _windows(fused, 7)


def _exact(moments: Moments) -> Moments:
    """Variances and covariances without the rounding that is all they hold in flat windows."""
    flat = [variance < _FLAT for variance in moments.variances]
    covariances = [
        covariance.masked_fill(flat[i] | flat[j], 0)
        for covariance, (i, j) in zip(moments.covariances, (*_PAIRS, (1, 2)), strict=False)
    ]
    return Moments(
        moments.means, [x.masked_fill(f, 0) for x, f in zip(moments.variances, flat, strict=True)], covariances
    )


def _share(moments: Moments) -> Tensor:
    """Share of source a in the sources' variance, in every window.

    Where both are flat, its share in the squared means: that is what the toolbox's rounded variances are multiples of
    there, because its window sums to not quite 1. A half where both are black.
    """
    (_, mean_a, mean_b), (_, a, b) = moments.means, moments.variances
    flat = a + b < _FLAT
    a, b = torch.where(flat, mean_a.square(), a), torch.where(flat, mean_b.square(), b)
    black = a + b == 0
    return torch.where(black, 0.5, a / (a + b).masked_fill(black, 1))


def _windows(image: Tensor, size: int) -> int:
    return (image.shape[1] - size + 1) * (image.shape[2] - size + 1)
