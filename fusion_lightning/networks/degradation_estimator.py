"""Network of the degradation estimator: a perceptron over robust statistics of an image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.imaging.resize import at_least

SMALLEST = 64
"""Smaller images are extended by reflection to so many pixels a side."""
_BLOCK = 8
_BRIGHTNESSES = 6
_RADII, _RINGS, _SECTORS = 24, 6, 8
_TINY = 1e-3
"""Grey level below which a logarithm sees no difference."""


class EstimatorNetwork(nn.Module):
    """Tells which of some effects an image shows, and how strong each is; for images of any size.

    Noise is read from high frequencies, blur from the spectrum, weather and light from grey levels: `statistics` of
    the image rounded to 8 bits, on the scale of those seen in training. A perceptron reads them, beside a straight
    line: logarithms of levels and of strengths go together.

    Args:
        kinds: Number of effects.
        width: Channels of the hidden layers.
    """

    def __init__(self, kinds: int, width: int = 256) -> None:
        super().__init__()
        self.kinds = kinds
        # what hardly varied in training is not stretched: elsewhere it may
        self.scale = nn.BatchNorm1d(STATISTICS, eps=0.01, momentum=None, affine=False)
        self.line = nn.Linear(STATISTICS, 2 * kinds + 2)
        self.layers = nn.Sequential(
            nn.Linear(STATISTICS, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, 2 * kinds + 2),
        )  # fmt: skip

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at images (B, 1 or 3, H, W) in [0, 1].

        Returns:
            Logits of each effect's presence (B, kinds), strengths (B, kinds) on the scale that it was taught, and
            cos and sin of twice the angle of motion (B, 2), not normalised.
        """
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            known = statistics((at_least(image.float(), SMALLEST) * 255).round() / 255)
        # what lies further out than anything seen says no more than that
        scaled = self.scale(known.to(image.dtype)).clamp(-5, 5)
        return (self.line(scaled) + self.layers(scaled)).split((self.kinds, self.kinds, 2), dim=1)


def statistics(image: Tensor) -> Tensor:
    """Robust statistics of images (B, 1 or 3, H, W) in [0, 1], at least 64 pixels a side: (B, `STATISTICS`)."""
    luma, chroma = 255 * rgb_to_luma(image), 255 * (rgb_to_cbcr(image) - 0.5)
    parts = [
        _grey_levels(luma, chroma, 255 * image.amin(dim=1, keepdim=True)),
        _residuals(luma, chroma),
        _noise_by_brightness(luma),
        _spectrum(luma),
        _lines(luma),
        _grid(luma),
        _outliers(image * 255, luma),
        _tails(luma),
    ]
    return torch.cat(parts, dim=1)


def _grey_levels(luma: Tensor, chroma: Tensor, darkest: Tensor) -> Tensor:
    """Levels and contrast of the whole image and of its upper, middle and lower third; unused levels in between."""
    counts = _histogram(luma)
    found = [_levels_at(counts, (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)) / 255]
    found += [_levels_at(_histogram(chroma.abs()), (0.5, 0.95)) / 64]
    found += [counts[:, :2].mean(dim=1, keepdim=True), counts[:, 254:].mean(dim=1, keepdim=True)]
    dark = -F.max_pool2d(-darkest, _BLOCK)
    for third, below in zip(luma.tensor_split(3, dim=2), dark.tensor_split(3, dim=2), strict=True):
        found += [third.flatten(1).mean(dim=1, keepdim=True) / 255, _log(third.flatten(1).std(dim=1, keepdim=True))]
        found += [_quantiles(below, (0.1, 0.5, 0.9)) / 255]
    low, high = _levels_at(counts, (0.02, 0.98)).split(1, dim=1)
    position = torch.arange(256, device=luma.device)
    inside = ((position >= low) & (position <= high)).float()
    used = ((counts > 0) * inside).sum(dim=1, keepdim=True)
    found += [torch.log2(inside.sum(dim=1, keepdim=True) + 1) / 8, (used / inside.sum(dim=1, keepdim=True)).log()]
    return torch.cat(found, dim=1)


def _residuals(luma: Tensor, chroma: Tensor) -> Tensor:
    """Noise levels by three second differences and by blocks, at three scales; how heavy their tails are."""
    found = []
    for _ in range(3):
        for difference in (_diagonal, _across, _down):
            residual = difference(luma).abs()
            middle = residual.flatten(1).median(dim=1, keepdim=True).values
            found += [_log(middle), _log(residual.square().flatten(1).mean(dim=1, keepdim=True).sqrt())]
        deviation = F.avg_pool2d(_diagonal(luma).square(), _BLOCK // 2).sqrt()
        found += [_log(_quantiles(deviation, (0.05, 0.25, 0.5, 0.75, 0.95)))]
        found += [
            _log(_diagonal(plane).abs().flatten(1).median(dim=1, keepdim=True).values) for plane in _split(chroma)
        ]
        luma, chroma = F.avg_pool2d(luma, 2), F.avg_pool2d(chroma, 2)
    return torch.cat(found, dim=1)


def _noise_by_brightness(luma: Tensor) -> Tensor:
    """Noise in the flatter blocks of six brightnesses, and how many blocks there are: photons are noisier in light."""
    level = F.avg_pool2d(luma, _BLOCK).flatten(1)
    residual = F.pad(_diagonal(luma), (0, 1, 0, 1)).square()
    deviation = F.avg_pool2d(residual, _BLOCK).flatten(1).sqrt()
    found = []
    for step in range(_BRIGHTNESSES):
        here = (level >= 256 / _BRIGHTNESSES * step) & (level < 256 / _BRIGHTNESSES * (step + 1))
        count = here.sum(dim=1, keepdim=True)
        ordered = torch.where(here, deviation, torch.inf).sort(dim=1).values
        flat = ordered.gather(1, (0.3 * count).long().clamp(max=ordered.shape[1] - 1))
        found += [torch.where(count > 0, _log(flat), 0.0), count / level.shape[1]]
    return torch.cat(found, dim=1)


def _spectrum(luma: Tensor) -> Tensor:
    """Logarithms of the power spectrum: over rings, and how its directions depart from each ring's mean."""
    height, width = luma.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(luma.device)
    windowed = (luma - luma.mean(dim=(2, 3), keepdim=True)) * window
    power = torch.fft.rfft2(windowed[:, 0]).abs().square() / window.square().sum()
    down = torch.fft.fftfreq(height, device=luma.device)[:, None]
    right = torch.fft.rfftfreq(width, device=luma.device)
    radius = torch.hypot(down, right)
    ring = (radius * _RADII / 0.7072).long().clamp(max=_RADII - 1).flatten()
    rings = _log(_group_means(power, ring, _RADII).sqrt())
    angle = torch.atan2(down.expand_as(radius), right.expand_as(radius)).remainder(torch.pi)
    sector = (angle * (_SECTORS / torch.pi)).round().long().remainder(_SECTORS).flatten()
    coarse = (radius * _RINGS / 0.5).long().flatten()
    part = torch.where(coarse < _RINGS, coarse * _SECTORS + sector, _RINGS * _SECTORS)
    by_part = _log(_group_means(power, part, _RINGS * _SECTORS + 1).sqrt())[:, :-1].unflatten(1, (_RINGS, _SECTORS))
    return torch.cat((rings, (by_part - by_part.mean(dim=2, keepdim=True)).flatten(1)), dim=1)


def _lines(luma: Tensor) -> Tensor:
    """Offsets that whole columns share, and rows to compare with: medians of differences along them."""
    found = []
    for dim in (2, 3):
        steps = luma.diff(dim=5 - dim).median(dim=dim).values.flatten(1)
        found += [_log(steps.abs().median(dim=1, keepdim=True).values), _log(steps.std(dim=1, keepdim=True))]
    return torch.cat(found, dim=1)


def _grid(luma: Tensor) -> Tensor:
    """How much the steps at one in eight rows or columns stand out: the blocks of a compressed image."""
    found = []
    for dim in (2, 3):
        second = luma.diff(n=2, dim=dim).abs().mean(dim=5 - dim).flatten(1)
        whole = second[:, : second.shape[1] // 8 * 8].unflatten(1, (-1, 8)).mean(dim=1)
        ordered = whole.sort(dim=1).values
        found += [_log(ordered[:, -2:]) - _log(ordered.median(dim=1, keepdim=True).values)]
    return torch.cat(found, dim=1)


def _outliers(image: Tensor, luma: Tensor) -> Tensor:
    """Shares of pixels that lie far above or below all their neighbours, and of those that are white or black."""
    framed = F.pad(luma, (1, 1, 1, 1), mode="reflect")
    higher, lower = ({least: torch.zeros_like(luma) for least in (8, 24)} for _ in range(2))
    height, width = luma.shape[-2:]
    for down in range(3):
        for right in range(3):
            departs = luma - framed[..., down : down + height, right : right + width]
            for least in (8, 24):
                higher[least] += departs > least
                lower[least] += departs < -least
    white, black = (image >= 254).all(dim=1, keepdim=True), (image <= 1).all(dim=1, keepdim=True)
    # but one of the eight neighbours: another outlier may lie beside
    masks = [higher[24] >= 7, lower[24] >= 7, (higher[8] >= 7) & white, (lower[8] >= 7) & black]
    return torch.log10(torch.cat([mask.flatten(1).float().mean(dim=1, keepdim=True) for mask in masks], dim=1) + 1e-5)


def _tails(luma: Tensor) -> Tensor:
    """How far the strongest bright and dark lines stand out, across and down: streaks are bright and nearly upright."""
    found = []
    for difference in (_across, _down):
        counts = _histogram(128 - difference(luma))
        low, high = _levels_at(counts, (0.01, 0.99)).split(1, dim=1)
        found += [_log(128 - low + 1), _log(high - 128 + 1)]
    return torch.cat(found, dim=1)


def _diagonal(plane: Tensor) -> Tensor:
    return (plane[..., :-1, :-1] - plane[..., :-1, 1:] - plane[..., 1:, :-1] + plane[..., 1:, 1:]) / 2


def _across(plane: Tensor) -> Tensor:
    return plane.diff(n=2, dim=3)


def _down(plane: Tensor) -> Tensor:
    return plane.diff(n=2, dim=2)


def _split(planes: Tensor) -> tuple[Tensor, ...]:
    return planes.split(1, dim=1)


def _log(values: Tensor) -> Tensor:
    return (values + _TINY).log()


def _histogram(plane: Tensor) -> Tensor:
    """Shares of the 256 grey levels, (B, 256)."""
    levels = plane.round().clamp(0, 255).long().flatten(1)
    offsets = 256 * torch.arange(len(plane), device=plane.device)[:, None]
    counts = torch.bincount((levels + offsets).flatten(), minlength=256 * len(plane))
    return counts.view(-1, 256) / levels.shape[1]


def _levels_at(histogram: Tensor, shares: tuple[float, ...]) -> Tensor:
    """The levels below which given shares of the pixels lie, (B, n)."""
    wanted = histogram.new_tensor(shares).clamp(1e-6, 1 - 1e-6).expand(len(histogram), -1).contiguous()
    return torch.searchsorted(histogram.cumsum(dim=1), wanted).clamp(max=255).float()


def _quantiles(values: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Quantiles, the nearest below, (B, n): of any number of values."""
    ordered = values.flatten(1).sort(dim=1).values
    return ordered[:, [round(share * (ordered.shape[1] - 1)) for share in shares]]


def _group_means(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Means of (B, H, W) over the pixels of each group, (B, groups)."""
    sums = values.new_zeros(len(values), groups).index_add(1, group, values.flatten(1))
    return sums / torch.bincount(group, minlength=groups).clamp(min=1)


STATISTICS = statistics(torch.full((1, 1, SMALLEST, SMALLEST), 0.5)).shape[1]
"""How many statistics there are."""
