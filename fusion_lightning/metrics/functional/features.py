"""FMI: how much mutual information the windows of a feature map share (Haghighat and Razian 2014)."""

import math
from typing import Literal

import torch
from torch import Tensor

from .filters import strips
from .images import fusion_score

_STRIP = 2**13  # pixels taken at a time: a window's 9 x 9 joint distribution is made for each of them


@fusion_score(smallest=3)
def fmi(
    fused: Tensor,
    source_a: Tensor,
    source_b: Tensor,
    *,
    features: Literal["none", "gradient", "dct"] = "none",
) -> Tensor:
    """Fast feature mutual information over 3x3 windows, the mean over the two sources; 0..1, higher is better.

    A window, read column by column and scaled to sum 1, counts as a distribution over its 9 positions; the joint
    distribution of two windows is the mixture of independence and the Fréchet bound that has their correlation. The
    value is 2 I / (H_X + H_F), 1 for equal windows. Not symmetric: the toolbox compares the second source with a
    rescaled copy of the fused window.

    Args:
        fused: Fused images (B, 1 or 3, H, W) in [0, 1], at least 3x3 pixels.
        source_a: First sources, the same size.
        source_b: Second sources, the same size.
        features: What the windows look at: the grey levels (`none`), their horizontal `gradient`, or the `dct` of the
            whole image.

    Returns:
        One value per image, (B,).
    """
    if features not in ("none", "gradient", "dct"):
        raise ValueError(f"`features` must be 'none', 'gradient' or 'dct', but got {features!r}")
    images = [image.detach() for image in (fused, source_a, source_b)]
    if features == "gradient":
        images = [torch.gradient(image, dim=2)[0] for image in images]
    elif features == "dct":
        rows, columns = (_dct_matrix(size).to(fused.device) for size in fused.shape[1:])
        images = [(rows @ image.double() @ columns.T).to(fused.dtype) for image in images]
    batch, height, width = fused.shape
    total = torch.zeros(batch, dtype=torch.float64, device=fused.device)
    for strip in strips(images, 2, _STRIP):
        f, a, b = (_windows(image) for image in strip)
        scaled = _rescale(f)
        same_a = (a == f).all(0)
        same_b = torch.where(same_a, (b == f).all(0), (b == scaled).all(0))
        for source, same in ((_rescale(a), same_a), (_rescale(b), same_b)):
            # two constant windows have equal distributions, whatever their levels
            same = same | (source.amin(0) == 1) & (scaled.amin(0) == 1)
            total = total + _shared(source, scaled).masked_fill(same, 1).sum((1, 2), dtype=torch.float64)
    return total / (2 * (height - 2) * (width - 2))


def _windows(image: Tensor) -> Tensor:
    """All 3x3 windows of (B, H, W), column by column: (9, B, H - 2, W - 2)."""
    height, width = image.shape[1] - 2, image.shape[2] - 2
    return torch.stack([image[:, y : y + height, x : x + width] for x in range(3) for y in range(3)])


def _rescale(windows: Tensor) -> Tensor:
    """Bring every window to 0..1, a constant one to ones."""
    lowest, highest = windows.amin(0), windows.amax(0)
    flat = lowest == highest
    return ((windows - lowest) / (highest - lowest).masked_fill(flat, 1)).masked_fill(flat, 1)


def _shared(x: Tensor, f: Tensor) -> Tensor:
    """2 I / (H_X + H_F) of rescaled windows (9, B, h, w): (B, h, w)."""
    x, f = x / x.sum(0), f / f.sum(0)
    position = torch.arange(1.0, 10.0, dtype=x.dtype, device=x.device).view(9, 1, 1, 1)
    spread_x, spread_f = ((position**2 * p).sum(0) - (position * p).sum(0).square() for p in (x, f))
    centred_x, centred_f = x - 1 / 9, f - 1 / 9
    power = centred_x.square().sum(0) * centred_f.square().sum(0)
    correlation = (centred_x * centred_f).sum(0) / power.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    # The bounds on the joint distribution function are min(F, X) for a positive correlation and max(F + X - 1, 0) =
    # X - min(1 - F, X) for a negative one: both come from M = min(G, X) with G = F or 1 - F.
    falling = correlation < 0
    sign = torch.where(falling, -1.0, 1.0)
    total_x, total_f = x.cumsum(0), f.cumsum(0)
    level = torch.where(falling, 1 - total_f, total_f)
    minimum = sum((torch.minimum(row, total_x).sum(0) for row in level), torch.zeros((), dtype=x.dtype))
    bound = torch.where(falling, 9 * total_x.sum(0) - minimum, minimum) - total_f.sum(0) * total_x.sum(0)
    usable = (correlation != 0) & (spread_x > 0) & (spread_f > 0) & (bound != 0)
    mixture = correlation * (spread_x * spread_f).clamp(min=0).sqrt() / bound.where(usable, 1)
    mixture = mixture.where(usable, 0)
    bounded, independent = mixture * sign, (1 - mixture) * x
    joint = torch.zeros_like(correlation)
    above = torch.where(falling, total_x, 0)
    for row, share in zip(level, f, strict=True):
        below = torch.minimum(row, total_x)
        step = above.neg_().add_(below).mul_(bounded)
        probability = independent * share
        probability += step
        probability[1:] -= step[:-1]
        joint += _entropy(probability)
        above = below
    separate = _entropy(x) + _entropy(f)
    positive = separate > 0
    return (2 * (separate - joint) / separate.where(positive, 1)).where(positive, 0)


def _entropy(shares: Tensor) -> Tensor:
    """-sum p log |p| over the first axis; the tiny number makes 0 log 0 = 0."""
    logarithm = torch.addcmul(shares.new_tensor(torch.finfo(shares.dtype).tiny), shares, shares).log_()
    return logarithm.mul_(shares).sum(0).mul_(-0.5)


def _dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II as a matrix (size, size), float64."""
    index = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * index[:, None] * (index + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
