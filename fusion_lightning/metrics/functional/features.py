"""FMI: feature mutual information over 3x3 windows (Haghighat and Razian 2014)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.errors import check_choice
from fusion_lightning.metrics.functional.filters import flags, strips
from fusion_lightning.metrics.functional.images import fusion_score

_STRIP = 2**16  # bytes of a map of the strips that are taken at a time
_CHUNK = 2**10  # windows whose 9 x 9 joint distributions are made at a time, so that they stay in a core's cache


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
    check_choice("features", features, ("none", "gradient", "dct"))
    images = [image.detach() for image in (fused, source_a, source_b)]
    if features == "gradient":
        images = [torch.gradient(image, dim=2)[0] for image in images]
    elif features == "dct":
        rows, columns = (_dct_matrix(size).to(fused.device) for size in fused.shape[1:])
        images = [(rows @ image.double() @ columns.T).to(fused.dtype) for image in images]
    batch, height, width = fused.shape
    total = torch.zeros(batch, dtype=torch.float64, device=fused.device)
    for strip in strips(images, 2, images[0].dtype, _STRIP):
        f, a, b = (_windows(image) for image in strip)
        scaled = _rescale(f)
        same_a = (a == f).all(0)
        same_b = torch.where(same_a, (b == f).all(0), (b == scaled).all(0))
        for source, same in ((_rescale(a), same_a), (_rescale(b), same_b)):
            # two constant windows have equal distributions, whatever their levels
            same = same | (source.amin(0) == 1) & (scaled.amin(0) == 1)
            total = total + _shared(source, scaled).masked_fill(same, 1).sum(1, dtype=torch.float64)
    return total / (2 * (height - 2) * (width - 2))


def _windows(image: Tensor) -> Tensor:
    """All 3x3 windows of (B, H, W), column by column: (9, B, (H - 2)(W - 2))."""
    height, width = image.shape[1] - 2, image.shape[2] - 2
    return torch.stack([image[:, y : y + height, x : x + width] for x in range(3) for y in range(3)]).flatten(2)


def _rescale(windows: Tensor) -> Tensor:
    """Bring every window to 0..1, a constant one to ones."""
    lowest, highest = windows.amin(0), windows.amax(0)
    flat = lowest == highest
    return ((windows - lowest) / (highest - lowest).masked_fill(flat, 1)).masked_fill(flat, 1)


def _shared(x: Tensor, f: Tensor) -> Tensor:
    """2 I / (H_X + H_F) of rescaled windows (9, B, N): (B, N)."""
    x, f = x / x.sum(0), f / f.sum(0)
    position = torch.arange(1.0, 10.0, dtype=x.dtype, device=x.device).view(9, 1, 1)
    spread_x, spread_f = ((position**2 * p).sum(0) - (position * p).sum(0).square() for p in (x, f))
    centred_x, centred_f = x - 1 / 9, f - 1 / 9
    power = centred_x.square().sum(0) * centred_f.square().sum(0)
    correlation = (centred_x * centred_f).sum(0) / power.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    # The bounds on the joint distribution function are min(F, X) for a positive correlation and max(F + X - 1, 0) =
    # X - min(1 - F, X) for a negative one: both come from M = min(G, X) with G = F or 1 - F.
    falling = flags(torch.lt, correlation, 0)
    total_x, total_f = (F.pad(p.cumsum(0), (0, 0, 0, 0, 1, 0)) for p in (x, f))
    sum_x = total_x.sum(0)
    maps = {
        "x": x,
        "f": f,
        "total_x": total_x,
        "level": (falling - total_f).abs_(),
        "sign": 1 - 2 * falling,
        "offset": sum_x * (10 * falling - total_f.sum(0)),
        "covariance": correlation * (spread_x * spread_f).clamp(min=0).sqrt(),
    }
    chunks = zip(*(part.flatten(-2).split(_CHUNK, -1) for part in maps.values()), strict=True)
    joint = torch.cat([_joint_entropy(**dict(zip(maps, chunk, strict=True))) for chunk in chunks]).view_as(correlation)
    separate = _entropy(x, 0) + _entropy(f, 0)
    return (2 * (separate - joint) / separate).masked_fill(separate <= 0, 0)


def _joint_entropy(
    x: Tensor, f: Tensor, total_x: Tensor, level: Tensor, sign: Tensor, offset: Tensor, covariance: Tensor
) -> Tensor:
    """Entropy of the joint distributions of windows x and f (9, N): (N,)."""
    minimum = torch.minimum(level[:, None], total_x)
    bound = minimum.sum((0, 1)).mul_(sign).add_(offset)
    # without a bound or a covariance the two are independent
    mixture = (covariance / bound).nan_to_num_(0, 0, 0)
    steps = minimum[1:] - minimum[:-1]
    bounded = (steps[:, 1:] - steps[:, :-1]).mul_(sign * mixture)
    return _entropy(bounded.addcmul_(f[:, None], (1 - mixture) * x), (0, 1))


def _entropy(shares: Tensor, axes: int | tuple[int, int]) -> Tensor:
    """-sum p log |p| over some axes; the tiny number makes 0 log 0 = 0."""
    logarithm = (shares * shares).add_(torch.finfo(shares.dtype).tiny).log_()
    return logarithm.mul_(shares).sum(axes).mul_(-0.5)


def _dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II as a matrix (size, size), float64."""
    index = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * index[:, None] * (index + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
