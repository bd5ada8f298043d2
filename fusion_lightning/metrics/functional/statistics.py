"""Metrics on the pixels themselves: contrast, detail, correlation and error."""

import math

import torch
from torch import Tensor

from fusion_lightning.metrics.functional.filters import root
from fusion_lightning.metrics.functional.images import fusion_score


@fusion_score()
def sd(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Population standard deviation of the fused grey levels; 0..127.5, higher is better."""
    return fused.double().flatten(1).std(1, correction=0)


@fusion_score(smallest=2)
def sf(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Spatial frequency, sqrt(mean dv² + mean dh²) of vertical and horizontal differences; >= 0, higher is better."""
    vertical = fused.diff(dim=1).square().mean((1, 2), dtype=torch.float64)
    horizontal = fused.diff(dim=2).square().mean((1, 2), dtype=torch.float64)
    return root(vertical + horizontal)


@fusion_score(smallest=2)
def ag(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Average gradient, sum sqrt((dx² + dy²) / 2) / ((H - 1)(W - 1)); >= 0, higher is better.

    Central differences, one-sided at the border; the sum runs over all H x W pixels, as in the toolbox.
    """
    dy, dx = torch.gradient(fused, dim=(1, 2))
    height, width = fused.shape[1:]
    return root((dx * dx + dy * dy) / 2).sum((1, 2), dtype=torch.float64) / ((height - 1) * (width - 1))


@fusion_score()
def cc(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Correlation coefficient, the mean of r(A, F) and r(B, F); -1..1, higher is better.

    NaN when one of the three images is constant.
    """
    return (_pearson(source_a.double(), fused.double()) + _pearson(source_b.double(), fused.double())) / 2


@fusion_score()
def scd(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Sum of the correlations of differences, r(F - B, A) + r(F - A, B) (Aslantas and Bendes 2015); -2..2, higher.

    NaN when the fused image is one of the sources (plus a constant), or a source is constant.
    """
    fused, source_a, source_b = fused.double(), source_a.double(), source_b.double()
    return _pearson(fused - source_b, source_a) + _pearson(fused - source_a, source_b)


@fusion_score()
def mse(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Mean squared error on [0, 1], the mean over the two sources; 0..1, lower is better."""
    return _squared_error(fused, source_a, source_b)


@fusion_score()
def psnr(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, 10 log10(1 / MSE), MSE being the mean over the two sources; dB, higher is better.

    Infinite when the three images are equal. The MATLAB toolbox prints 20 log10(255) = 48.13 dB more, because it
    takes a peak of 255 with an error on [0, 1].
    """
    return -10 * torch.log10(_squared_error(fused, source_a, source_b))


def _squared_error(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    total = sum((fused - source).square().mean((1, 2), dtype=torch.float64) for source in (source_a, source_b))
    return torch.as_tensor(total) / (2 * 255**2)


def _pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of maps (B, H, W): (B,), NaN where one is constant."""
    x, y = (centred - centred.mean((1, 2), keepdim=True) for centred in (x, y))
    # a constant image's mean may miss its level by a rounding error, which must not become a correlation
    flat = 1e-10 * math.prod(x.shape[1:])
    power_x, power_y = x.square().sum((1, 2)), y.square().sum((1, 2))
    correlation = (x * y).sum((1, 2)) / (power_x * power_y).sqrt()
    return correlation.masked_fill((power_x < flat) | (power_y < flat), torch.nan)
