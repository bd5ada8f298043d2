"""Metrics on the fine detail: wavelet edges and spatial frequency against the sources."""

import math

import torch
from torch import Tensor

from fusion_lightning.metrics.functional.filters import root
from fusion_lightning.metrics.functional.images import fusion_score


@fusion_score(smallest=4)
def q_m(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Multiscale edge preservation in two Haar levels (P.-W. Wang and Liu 2008); 0..3, higher is better.

    Q_M = Q_1^(2/3) Q_2^(1/3), Q_l = sum(E_A W_A + E_B W_B) / sum(W_A + W_B) with E_X = the sum of exp(-|X - F|) over
    the three detail bands (not divided by 3, as in the toolbox) and W_X their energy. An odd last row or column is
    dropped. NaN when both sources are constant.
    """
    images = [fused, source_a, source_b]
    value = torch.ones((), dtype=torch.float64, device=fused.device)
    for exponent in (2 / 3, 1 / 3):
        levels = [_haar(image) for image in images]
        images = [approximation for approximation, _ in levels]
        (_, fused_bands), *sources = levels
        kept = weight = torch.zeros_like(value)
        for _, bands in sources:
            energy = bands.square().sum(1)
            kept = kept + (torch.exp(-(bands - fused_bands).abs()).sum(1) * energy).sum((1, 2), dtype=torch.float64)
            weight = weight + energy.sum((1, 2), dtype=torch.float64)
        value = value * (kept / weight) ** exponent
    return value


def _haar(image: Tensor) -> tuple[Tensor, Tensor]:
    """One level of the orthonormal Haar transform: (B, H, W) to approximation (B, h, w) and details (B, 3, h, w)."""
    height, width = image.shape[1] // 2 * 2, image.shape[2] // 2 * 2
    top, bottom = image[:, 0:height:2, :width], image[:, 1:height:2, :width]
    low, high = top + bottom, top - bottom
    bands = [low[..., ::2] - low[..., 1::2], high[..., ::2] + high[..., 1::2], high[..., ::2] - high[..., 1::2]]
    return (low[..., ::2] + low[..., 1::2]) / 2, torch.stack(bands, 1) / 2


@fusion_score(smallest=2)
def q_sf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Ratio of spatial frequency error, (SF_F - SF_R) / SF_R (Zheng et al. 2007); -1 or more, 0 is ideal.

    SF is over rows, columns and both diagonals (weight 1/sqrt 2); the reference takes at every position the larger of
    the sources' differences. Negative: detail was lost, positive: detail or noise was added. NaN when both sources
    are constant.
    """
    energy = reference = torch.zeros((), dtype=torch.float64, device=fused.device)
    for step, weight in (((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 1 / math.sqrt(2)), ((1, -1), 1 / math.sqrt(2))):
        larger = torch.maximum(_difference(source_a, *step).abs(), _difference(source_b, *step).abs())
        energy = energy + weight * _difference(fused, *step).square().sum((1, 2), dtype=torch.float64)
        reference = reference + weight * larger.square().sum((1, 2), dtype=torch.float64)
    return root(energy / reference) - 1


def _difference(image: Tensor, down: int, right: int) -> Tensor:
    """Every pixel's neighbour `down` rows below and `right` columns to the right, minus the pixel."""
    height, width = image.shape[1:]
    start, stop = max(-right, 0), width - max(right, 0)
    return image[:, down:, start + right : stop + right] - image[:, : height - down, start:stop]
