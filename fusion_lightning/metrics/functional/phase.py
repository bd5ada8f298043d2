"""Q_P: what the fused image keeps of the sources' phase congruency (Zhao, Laganière and Liu 2007)."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .filters import gaussian, local_moments
from .images import fusion_score

_EPS = 1e-4
_SCALES, _ORIENTATIONS = 4, 6
_WINDOW = 11


@fusion_score(smallest=11)
def q_p(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Phase congruency metric, the product P_p P_M P_m; 0..1 (0.97 is reached), higher is better.

    Phase congruency pc (Kovesi's, on 4 x 6 log-Gabor filters) and its largest and smallest moments M and m. Each map
    of the fused image is correlated in 11x11 Gaussian windows with that of A, of B and of the source with the larger
    pc; the best of the three counts, where the larger pc exceeds 0.1. NaN when the fused image or both sources are
    constant.
    """
    maps_f, maps_a, maps_b = (_congruency(image) for image in (fused, source_a, source_b))
    stronger = maps_a[:, :1] > maps_b[:, :1]
    maps = [maps_a, maps_b, torch.where(stronger, maps_a, maps_b)]
    masks = [candidate[:, 0] > 0.1 for candidate in maps]
    value = torch.ones(len(fused), dtype=torch.float64, device=fused.device)
    for feature in range(3):
        images = [maps_f[:, feature], *(x[:, feature] * mask for x, mask in zip(maps, masks, strict=True))]
        padded = [F.pad(image, (_WINDOW // 2,) * 4) for image in images]
        total, top = torch.zeros_like(value), 0
        for moments in local_moments(padded, ((0, 1), (0, 2), (0, 3)), gaussian(_WINDOW, 1.5)):
            bottom = top + moments.means[0].shape[1]
            correlations = [
                (covariance + _EPS) / ((moments.variances[0] * variance).abs().sqrt() + _EPS) * mask[:, top:bottom]
                for covariance, variance, mask in zip(moments.covariances, moments.variances[1:], masks, strict=True)
            ]
            total, top = total + torch.stack(correlations).amax(0).sum((1, 2)), bottom
        value = value * total / masks[2].sum((1, 2))
    return value.masked_fill(_constant(fused), torch.nan)


class _Bank(NamedTuple):
    """Log-Gabor filters of one image size, on the frequency plane of `fft2`."""

    radial: Tensor
    """(4, H, W), from the finest scale to the coarsest."""
    angular: Tensor
    """(6, H, W), one-sided."""
    noise: list[float]
    """Per orientation, the noise threshold divided by the root of the finest scale's median energy."""


def _congruency(levels: Tensor) -> Tensor:
    """Phase congruency and its largest and smallest moments of images (B, H, W): (B, 3, H, W)."""
    maps = torch.stack([_congruency_of_one(image) for image in levels])
    # a constant image's maps would be the rounding of the Fourier transform
    return maps.masked_fill(_constant(levels).view(-1, 1, 1, 1), 0)


def _constant(levels: Tensor) -> Tensor:
    return levels.amin((1, 2)) == levels.amax((1, 2))


def _congruency_of_one(image: Tensor) -> Tensor:
    bank = _filters(*image.shape, image.dtype, image.device)
    spectrum = torch.fft.fft2(image)
    energies = amplitudes = cos2 = sin2 = cross = torch.zeros_like(image)
    for orientation in range(_ORIENTATIONS):
        # real times complex would first make the real factor complex
        turned = (part * bank.angular[orientation] * bank.radial for part in (spectrum.real, spectrum.imag))
        response = torch.fft.ifft2(torch.complex(*turned))
        even, odd = response.real.contiguous(), response.imag.contiguous()
        amplitude = (even * even).addcmul_(odd, odd).sqrt_()
        amplitude_sum = amplitude.sum(0)
        sum_even, sum_odd = even.sum(0), odd.sum(0)
        length = (sum_even * sum_even + sum_odd * sum_odd).sqrt() + _EPS
        mean_even, mean_odd = sum_even / length, sum_odd / length
        energy = sum_even * mean_even + sum_odd * mean_odd - (even * mean_odd - odd * mean_even).abs().sum(0)
        energy = (energy - bank.noise[orientation] * _median(amplitude[0].square()).sqrt()).clamp(min=0)
        width = amplitude_sum / (amplitude.amax(0) + _EPS) / _SCALES
        energy = energy * torch.sigmoid(10 * (width - 0.5))
        congruency = energy / amplitude_sum
        x, y = (congruency * part for part in _direction(orientation))
        cos2, sin2, cross = cos2 + x * x, sin2 + y * y, cross + x * y
        energies, amplitudes = energies + energy, amplitudes + amplitude_sum
    # /6 where /3 would be expected: the toolbox's code
    cos2, sin2, cross = cos2 / 3, sin2 / 3, cross / 6
    spread = (cross * cross + (cos2 - sin2).square()).sqrt() + _EPS
    return torch.stack((energies / (amplitudes + _EPS), (sin2 + cos2 + spread) / 2, (sin2 + cos2 - spread) / 2))


def _direction(orientation: int) -> tuple[float, float]:
    angle = orientation * math.pi / _ORIENTATIONS
    return math.cos(angle), math.sin(angle)


def _median(values: Tensor) -> Tensor:
    """Median of all values, the mean of the middle two where their number is even."""
    values = values.flatten()
    lower = values.kthvalue((len(values) + 1) // 2).values
    if len(values) % 2:
        return lower
    above = values > lower
    repeated = (~above).sum() > len(values) // 2
    return (lower + torch.where(repeated, lower, values.where(above, math.inf).amin())) / 2


@lru_cache(maxsize=2)
@torch.inference_mode(mode=False)  # a validation may be the first to ask, and a loss the next
def _filters(height: int, width: int, dtype: torch.dtype, device: torch.device) -> _Bank:
    """The filters of an image size; kept, because the images of a set mostly share theirs."""
    y, x = _grid(height)[:, None], _grid(width)
    radius = (x * x + y * y).sqrt()
    radius[height // 2, width // 2] = 1
    theta = torch.atan2(-y, x.expand_as(radius))
    radius, theta = torch.fft.ifftshift(radius), torch.fft.ifftshift(theta)
    v, u = ((torch.arange(n, dtype=torch.float64) - n // 2) / n for n in (height, width))
    low_pass = 1 / (1 + ((u * u + v[:, None] ** 2).sqrt() / 0.45) ** 30)
    # fftshift where ifftshift is meant: off by one for odd sizes, as in the toolbox
    low_pass = torch.fft.fftshift(low_pass)
    radial = []
    for scale in range(_SCALES):
        ring = torch.exp(-((radius * 3 * 2.1**scale).log() ** 2) / (2 * math.log(0.55) ** 2)) * low_pass
        ring[0, 0] = 0
        radial.append(ring)
    angular, noise = [], []
    spread = math.pi / _ORIENTATIONS / 1.2
    for orientation in range(_ORIENTATIONS):
        cosine, sine = _direction(orientation)
        difference = torch.atan2(theta.sin() * cosine - theta.cos() * sine, theta.cos() * cosine + theta.sin() * sine)
        angular.append(torch.exp(-(difference**2) / (2 * spread**2)))
        noise.append(_noise_threshold([angular[-1] * ring for ring in radial]))
    return _Bank(torch.stack(radial).to(device, dtype), torch.stack(angular).to(device, dtype), noise)


def _noise_threshold(filters: list[Tensor]) -> float:
    """Kovesi's threshold T for noise whose median energy at the finest scale is 1.

    The sums over pixels of products of the filters' real parts in space are, by Parseval, sums over frequencies of
    products of the filters' even parts.
    """
    even = [(x + torch.roll(x.flip(0, 1), (1, 1), (0, 1))) / 2 for x in filters]
    squares = sum(float((x * x).sum()) for x in even)
    products = sum(float((even[i] * even[j]).sum()) for i in range(_SCALES) for j in range(i + 1, _SCALES))
    power = 1 / math.log(2) / float((filters[0] ** 2).sum())
    tau = math.sqrt((2 * power * squares + 4 * power * products) / 2)
    return (tau * math.sqrt(math.pi / 2) + 2 * math.sqrt((2 - math.pi / 2) * tau**2)) / 1.7


def _grid(size: int) -> Tensor:
    """Frequencies along one axis, centred, float64; an odd size is divided by size - 1, as in the toolbox."""
    return (torch.arange(size, dtype=torch.float64) - size // 2) / (size - size % 2)
