"""MEF-SSIM: structural similarity to the best of the sources' structures (Ma, Zeng and Wang 2015)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.metrics.functional.filters import (
    Moments,
    flags,
    gaussian,
    local_moments,
    root,
    sum_up,
    working_type,
)
from fusion_lightning.metrics.functional.images import fusion_score

_WINDOW = 11
_BOX = (1 / _WINDOW,) * _WINDOW
_EPS = 2.0**-52  # MATLAB's


@fusion_score(smallest=41)
def mef_ssim(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Multi-exposure structural similarity, which one toolbox calls MS_SSIM; 0..1, higher is better.

    In every 11x11 window the reference r is a weighted sum of the sources' mean-free patches, brought to the larger
    of their norms; Q = mean (2 cov(r, F) + C) / (var r + var F + C) with Gaussian moments, C = (0.03 · 255)². The
    result is the product of Q^w over three scales, w = (0.0448, 0.2856, 0.3001) / 0.6305. No luminance term. A
    negative scale counts as 0.
    """
    images = [fused, source_a, source_b]
    dtype = working_type(fused)
    value = fused.new_ones(len(fused), dtype=torch.float64)
    for weight in (0.0448, 0.2856, 0.3001):
        total = torch.zeros_like(value)
        boxes = local_moments(images[1:], ((0, 1),), _BOX, dtype)
        windows = local_moments(images, ((0, 1), (0, 2), (1, 2)), gaussian(_WINDOW, 1.5), dtype)
        for box, window in zip(boxes, windows, strict=True):
            total = total + sum_up(_similarity(box, window))
        count = (images[0].shape[1] - _WINDOW + 1) * (images[0].shape[2] - _WINDOW + 1)
        value = value * (total / count).clamp(min=0) ** (weight / 0.6305)
        images = [_halve(image) for image in images]
    return value


def _similarity(box: Moments, window: Moments) -> Tensor:
    # Because r is a combination of the two patches with coefficients that are constant in the window, its norm and
    # its moments follow from those of the sources: no patch is ever formed.
    norms = [_norm(variance) for variance in box.variances]
    together = _norm(box.variances[0] + box.variances[1] + 2 * box.covariances[0])
    consistency = ((together + _EPS) / (norms[0] + norms[1] + _EPS)).clamp(_EPS, 1 - torch.finfo(norms[0].dtype).eps)
    power = torch.tan(math.pi / 2 * consistency).clamp(max=10)
    strengths = [norm + 0.001 for norm in norms]
    # a power of positive numbers, through logarithms because these are vectorised
    weights = [(power * (strength / _WINDOW).log()).exp() + _EPS for strength in strengths]
    a, b = (weight / (weights[0] + weights[1]) / strength for weight, strength in zip(weights, strengths, strict=True))
    norm = _norm(a * a * box.variances[0] + b * b * box.variances[1] + 2 * a * b * box.covariances[0])
    # a patch of norm 0 is 0, whatever it is brought to
    scale = torch.maximum(*strengths) / (norm + flags(torch.eq, norm, 0))
    a, b = a * scale, b * scale
    variance = a * a * window.variances[1] + b * b * window.variances[2] + 2 * a * b * window.covariances[2]
    covariance = a * window.covariances[0] + b * window.covariances[1]
    constant = (0.03 * 255) ** 2
    return (2 * covariance + constant) / (variance + window.variances[0] + constant)


def _norm(variance: Tensor) -> Tensor:
    """Norm of a mean-free patch with this variance; its gradient is 0 where it is 0."""
    return _WINDOW * root(variance.clamp(min=0))


def _halve(image: Tensor) -> Tensor:
    """Means of 2x2 pixels, the last row and column repeated where they have no partner."""
    height, width = image.shape[1:]
    return F.avg_pool2d(F.pad(image[:, None], (0, width % 2, 0, height % 2), mode="replicate"), 2)[:, 0]
