"""CCF's conditions: named functions of the fusion and both sources.

Images are luma (B, 1, H, W) on [−1, 1]; a condition is (B,), lower is better.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.losses.functional import sobel_magnitude, structural_similarity

Condition = Callable[[Tensor, Tensor, Tensor], Tensor]


def ssim(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Minus the mean structural similarity to both sources."""
    fused, a, b = ((image + 1) / 2 for image in (fused, a, b))
    return -(structural_similarity(fused, a) + structural_similarity(fused, b)) / 2


def mse(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error to both sources, halved."""
    return (_mean((fused - a).square()) + _mean((fused - b).square())) / 2


def edge(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the edges to the stronger source's."""
    return _mean((sobel_magnitude(fused) - torch.maximum(sobel_magnitude(a), sobel_magnitude(b))).square())


def low(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the low frequencies to the sources' mean."""
    approximations = [haar(image)[:, :1] for image in (fused, a, b)]
    return _mean((approximations[0] - (approximations[1] + approximations[2]) / 2).square())


def high(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the high frequencies to the stronger source's."""
    details, of_a, of_b = (haar(image)[:, 1:] for image in (fused, a, b))
    return _mean((details - torch.where(of_a.abs() >= of_b.abs(), of_a, of_b)).square())


def intensity(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distance to the brighter source, CLED-Fusion's (16) per image."""
    return _mean((fused - torch.maximum(a, b)).abs())


def gradient(fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Distance of the gradient's length to the stronger source's, CLED-Fusion's (17) per image."""
    return _mean((sobel_magnitude(fused) - torch.maximum(sobel_magnitude(a), sobel_magnitude(b))).abs())


def spatial_frequency(image: Tensor) -> Tensor:
    """Root of the mean squares of the differences along rows and columns, added."""
    # of a flat image, too, the root has a slope
    return (_mean(image.diff(dim=3).square()) + _mean(image.diff(dim=2).square()) + 1e-12).sqrt()


def edge_intensity(image: Tensor) -> Tensor:
    """Mean length of the Sobel gradient."""
    return _mean(sobel_magnitude(image))


def deviation(image: Tensor) -> Tensor:
    """Standard deviation."""
    return (_mean((image - image.mean(dim=(1, 2, 3), keepdim=True)).square()) + 1e-12).sqrt()


def haar(image: Tensor) -> Tensor:
    """One level of the orthonormal Haar transform: (B, 1, H, W) to (B, 4, ⌈H/2⌉, ⌈W/2⌉), the approximation first.

    An odd side repeats its last row or column.
    """
    image = F.pad(image, (0, image.shape[-1] % 2, 0, image.shape[-2] % 2), mode="replicate")
    top, bottom = image[..., ::2, :], image[..., 1::2, :]
    sums, slopes = ([one[..., ::2] + sign * one[..., 1::2] for one in (top, bottom)] for sign in (1, -1))
    return torch.cat([upper + sign * lower for upper, lower in (sums, slopes) for sign in (1, -1)], dim=1) / 2


def _matched(measure: Callable[[Tensor], Tensor]) -> Condition:
    """The squared distance of a measure of the fusion to the larger one of its sources."""
    return lambda fused, a, b: (measure(fused) - torch.maximum(measure(a), measure(b))).square()


def _raised(measure: Callable[[Tensor], Tensor]) -> Condition:
    """Minus a measure of the fusion, without bound."""
    return lambda fused, a, b: -measure(fused)


_MEASURES = {"sf": spatial_frequency, "ei": edge_intensity, "sd": deviation}

BOUNDED: Mapping[str, Condition] = {
    "ssim": ssim,
    "mse": mse,
    "edge": edge,
    "low": low,
    "high": high,
    **{name: _matched(measure) for name, measure in _MEASURES.items()},
    "intensity": intensity,
    "gradient": gradient,
}
"""The conditions by name; the statistics ``sf``, ``ei`` and ``sd`` ask for those of the stronger source."""

UNBOUNDED: Mapping[str, Condition] = {**BOUNDED, **{name: _raised(measure) for name, measure in _MEASURES.items()}}
"""The same, but the statistics are to grow without end, as in the released code."""


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=(1, 2, 3))
