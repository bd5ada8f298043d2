"""Q_P: preserved phase congruency (Zhao, Laganière and Liu 2007)."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.metrics.functional.filters import gaussian, local_moments, sum_up
from fusion_lightning.metrics.functional.images import fusion_score

_EPS = 1e-4
_SCALES, _ORIENTATIONS = 4, 6
_WINDOW = 11
_STRIP = 2**14  # pixels whose responses are worked on at a time, so that they stay in a core's cache


@fusion_score(smallest=11)
def q_p(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
    """Phase congruency metric, the product P_p P_M P_m; 0..1 (0.97 is reached), higher is better.

    Phase congruency pc (Kovesi's, on 4 x 6 log-Gabor filters) and its largest and smallest moments M and m. Each map
    of the fused image is correlated in 11x11 Gaussian windows with that of A, of B and of the source with the larger
    pc; the best of the three counts, where the larger pc exceeds 0.1. NaN when the fused image or both sources are
    constant.
    """
    maps_f, maps_a, maps_b = (_congruency(image.detach()) for image in (fused, source_a, source_b))
    stronger = maps_a[:, 0] > maps_b[:, 0]
    mask_a, mask_b = maps_a[:, 0] > 0.1, maps_b[:, 0] > 0.1
    masks = [mask_a, mask_b, torch.where(stronger, mask_a, mask_b)]
    value = torch.ones(len(fused), dtype=torch.float64, device=fused.device)
    for feature in range(3):
        map_a, map_b = maps_a[:, feature], maps_b[:, feature]
        sources = (map_a, map_b, torch.where(stronger, map_a, map_b))
        images = [maps_f[:, feature], *(x * mask for x, mask in zip(sources, masks, strict=True))]
        padded = [F.pad(image, (_WINDOW // 2,) * 4) for image in images]
        total, top = torch.zeros_like(value), 0
        window = gaussian(_WINDOW, 1.5)
        for moments in local_moments(padded, ((0, 1), (0, 2), (0, 3)), window):
            bottom = top + moments.means[0].shape[1]
            correlations = [
                (covariance + _EPS) / ((moments.variances[0] * variance).abs().sqrt() + _EPS) * mask[:, top:bottom]
                for covariance, variance, mask in zip(moments.covariances, moments.variances[1:], masks, strict=True)
            ]
            best = torch.maximum(torch.maximum(correlations[0], correlations[1]), correlations[2])
            total, top = total + sum_up(best), bottom
        value = value * total / masks[2].sum((1, 2))
    return value.masked_fill(_constant(fused), torch.nan)


class _Bank(NamedTuple):
    """Log-Gabor filters of one image size, on the frequency plane of `fft2`."""

    radial: Tensor
    """(4, H, W, 2), from the finest scale to the coarsest; every value twice, for both parts of a complex number."""
    angular: Tensor
    """(6, H, W, 2), one-sided; every value twice."""
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
    spectrum = torch.view_as_real(torch.fft.fft2(image))
    even, odd = image.new_empty(2, _SCALES, *image.shape)
    sums = image.new_zeros(5, *image.shape)
    rows = max(_STRIP // image.shape[1], 1)
    for orientation in range(_ORIENTATIONS):
        turned = spectrum * bank.angular[orientation]
        for scale in range(_SCALES):
            response = torch.fft.ifft2(torch.view_as_complex(turned * bank.radial[scale]))
            even[scale], odd[scale] = response.real, response.imag
        threshold = bank.noise[orientation] * _median((even[0] * even[0]).addcmul_(odd[0], odd[0])).sqrt()
        for maps in zip(sums.split(rows, 1), even.split(rows, 1), odd.split(rows, 1), strict=True):
            _add_orientation(*maps, threshold, *_direction(orientation))
    energies, amplitudes, cos2, sin2, cross = sums
    # /6 where /3 would be expected: the toolbox's code
    cos2, sin2, cross = cos2 / 3, sin2 / 3, cross / 6
    spread = (cross * cross).add_((cos2 - sin2).square_()).sqrt_().add_(_EPS)
    total = cos2.add_(sin2)
    return torch.stack((energies / amplitudes.add_(_EPS), (total + spread) / 2, (total - spread) / 2))


def _add_orientation(sums: Tensor, even: Tensor, odd: Tensor, threshold: Tensor, cosine: float, sine: float) -> None:
    """Add one orientation's share to the sums (5, h, W), given its responses (4, h, W).

    The sums are of energy, amplitude and, for the moments, congruency squared times cos², sin² and cos sin.
    """
    amplitude = (even * even).addcmul_(odd, odd).sqrt_()
    amplitude_sum = amplitude.sum(0)
    mean_even, mean_odd = even.sum(0), odd.sum(0)
    length = (mean_even * mean_even).addcmul_(mean_odd, mean_odd)
    along = length.sqrt().add_(_EPS)
    # the responses' components along and across their mean's direction
    across = (even * mean_odd).addcmul_(odd, mean_even, value=-1).abs_().sum(0)
    energy = length.sub_(across).div_(along).sub_(threshold).clamp_(min=0)
    width = amplitude_sum / amplitude.amax(0).add_(_EPS).mul_(_SCALES)
    energy.mul_(width.sub_(0.5).mul_(10).sigmoid_())
    congruency = (energy / amplitude_sum).square_()
    for total, share in zip(sums[2:], (cosine * cosine, sine * sine, cosine * sine), strict=True):
        total.add_(congruency, alpha=share)
    sums[0].add_(energy)
    sums[1].add_(amplitude_sum)


def _direction(orientation: int) -> tuple[float, float]:
    angle = orientation * math.pi / _ORIENTATIONS
    return math.cos(angle), math.sin(angle)


def _median(values: Tensor) -> Tensor:
    """Median of values >= 0, the mean of the middle two where their number is even.

    The leading 16 bits after the sign order such floating-point numbers; only those that share the middle one's are
    sorted, five times faster than selecting among all.
    """
    values = values.flatten()
    integer = torch.int32 if values.dtype == torch.float32 else torch.int64
    leading = values.view(integer) >> (8 * values.element_size() - 17)
    below = torch.bincount(leading, minlength=2**16).cumsum(0)
    middle = torch.tensor([(len(values) - 1) // 2, len(values) // 2], device=values.device)
    first, last = torch.searchsorted(below, middle, right=True).tolist()
    candidates = values[(leading >= first) & (leading <= last)].sort().values
    return candidates[middle - (below[first - 1] if first else 0)].mean()


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
    return _Bank(_twice(radial).to(device, dtype), _twice(angular).to(device, dtype), noise)


def _twice(maps: list[Tensor]) -> Tensor:
    return torch.stack(maps)[..., None].expand(-1, -1, -1, 2).contiguous()


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
