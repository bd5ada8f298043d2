"""Colour metrics against the source that has colour, in CIELAB.

Images are taken as sRGB under D65 and compared in CIELAB: lightness L*, 0..100; chroma C* = √(a*² + b*²); and hue, the
angle of (a*, b*). A pair without a source in colour has no such score (NaN).
"""

import functools
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from fusion_lightning.metrics.functional.images import GreyImages, Score, to_grey_levels

_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)
_GREYEST = 0.5
"""Mean chroma below which a source is grey: RGB files of infrared images differ by a level between their channels."""


def color_score(definition: Callable[[Tensor, Tensor], Tensor]) -> Score[[]]:
    """Make a public metric out of a definition on CIELAB images (3, H, W) of the fusion and of the source in colour."""

    def score_grey(images: GreyImages) -> Tensor:
        values = [_score(definition, *one) for one in zip(*images.originals, strict=True)]
        return torch.stack(values).to(images.dtype)

    @functools.wraps(definition)
    def score(fused: Tensor, source_a: Tensor, source_b: Tensor) -> Tensor:
        return score_grey(to_grey_levels(fused, source_a, source_b))

    score.score_grey = score_grey  # type: ignore[attr-defined]
    score.smallest = 1  # type: ignore[attr-defined]
    return cast(Score[[]], score)


def _score(definition: Callable[[Tensor, Tensor], Tensor], fused: Tensor, a: Tensor, b: Tensor) -> Tensor:
    def chroma(lab: Tensor) -> float:
        return float(lab[1:].norm(dim=0).mean())

    source = max((rgb_to_lab(image.expand(3, -1, -1)) for image in (a, b)), key=chroma)
    if chroma(source) < _GREYEST:
        return fused.new_full((), math.nan, dtype=torch.float64)
    return definition(rgb_to_lab(fused.expand(3, -1, -1)), source)


@color_score
def saturation(fused: Tensor, source: Tensor) -> Tensor:
    """How much of the source's saturation is kept: the ratio of the means of C* / √(C*² + L*²); 1 is all of it."""
    return _saturation(fused).mean() / _saturation(source).mean()


@color_score
def hue(fused: Tensor, source: Tensor) -> Tensor:
    """How far hues turn, in degrees 0..180: the mean angle between (a*, b*) of both, weighted by the source's chroma.

    A fused pixel that has lost all chroma has no hue; it counts as a quarter turn, the mean of all angles.
    """
    weight = source[1:].norm(dim=0)
    lost = fused[1:].norm(dim=0) < 1e-3
    turn = torch.atan2(fused[2], fused[1]) - torch.atan2(source[2], source[1])
    degrees = torch.rad2deg(torch.remainder(turn + math.pi, 2 * math.pi) - math.pi).abs()
    return (weight * degrees.masked_fill(lost, 90)).sum() / weight.sum()


@color_score
def ciede2000(fused: Tensor, source: Tensor) -> Tensor:
    """Mean colour difference ΔE00 to the source in colour; about 1 is just visible."""
    return delta_e00(fused, source).mean()


def delta_e00(first: Tensor, second: Tensor) -> Tensor:
    """CIEDE2000 (Sharma, Wu and Dalal 2005) between CIELAB colours (3, …) pixel by pixel: (…)."""
    lightness = torch.stack((first[0], second[0]))
    a, b = torch.stack((first[1], second[1])), torch.stack((first[2], second[2]))
    mean_chroma = torch.hypot(a, b).mean(dim=0)
    a = a * (1.5 - 0.5 * _saturating(mean_chroma))  # a' = (1 + G) a*, G = (1 − √(C̄⁷ / (C̄⁷ + 25⁷))) / 2
    chroma, angle = torch.hypot(a, b), torch.rad2deg(torch.atan2(b, a)) % 360
    grey = (chroma == 0).any(dim=0)
    turn = (angle[1] - angle[0] + 180) % 360 - 180
    # of two opposite hues the formula takes the positive turn only when the second angle is the larger one
    turn = torch.where((turn == -180) & (angle[1] > angle[0]), 180.0, turn).masked_fill(grey, 0)
    d_lightness, d_chroma = lightness[1] - lightness[0], chroma[1] - chroma[0]
    d_hue = 2 * chroma.prod(dim=0).sqrt() * torch.sin(torch.deg2rad(turn) / 2)
    middle = angle.sum(dim=0) / 2
    far = (angle[0] - angle[1]).abs() > 180
    middle = torch.where(far, torch.where(angle.sum(dim=0) < 360, middle + 180, middle - 180), middle)
    middle = torch.where(grey, angle.sum(dim=0), middle)
    mean_lightness, mean_chroma = lightness.mean(dim=0), chroma.mean(dim=0)
    weight = (
        1
        - 0.17 * _cos(middle - 30)
        + 0.24 * _cos(2 * middle)
        + 0.32 * _cos(3 * middle + 6)
        - 0.20 * _cos(4 * middle - 63)
    )
    from_middle = (mean_lightness - 50).square()
    s_lightness = 1 + 0.015 * from_middle / (20 + from_middle).sqrt()
    s_chroma, s_hue = 1 + 0.045 * mean_chroma, 1 + 0.015 * mean_chroma * weight
    rotation = 60 * torch.exp(-((middle - 275) / 25).square())  # 2 Δθ in degrees
    twist = -2 * _saturating(mean_chroma) * torch.sin(torch.deg2rad(rotation))
    lightness_part, chroma_part, hue_part = d_lightness / s_lightness, d_chroma / s_chroma, d_hue / s_hue
    square = lightness_part.square() + chroma_part.square() + hue_part.square() + twist * chroma_part * hue_part
    return square.clamp(min=0).sqrt()


def rgb_to_lab(image: Tensor) -> Tensor:
    """CIELAB (3, …), float64, of an sRGB image (3, …) in [0, 1] under D65; values outside are clipped."""
    image = image.double().clamp(0, 1)
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,j...->i...", linear.new_tensor(_TO_XYZ), linear)
    relative = xyz / linear.new_tensor(_WHITE).view(3, *[1] * (image.ndim - 1))
    x, y, z = torch.where(
        relative > (6 / 29) ** 3, relative.clamp(min=1e-12) ** (1 / 3), relative * (29 / 6) ** 2 / 3 + 4 / 29
    )
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def _saturation(lab: Tensor) -> Tensor:
    chroma = lab[1:].norm(dim=0)
    return chroma / torch.hypot(chroma, lab[0]).clamp(min=1e-9)


def _saturating(chroma: Tensor) -> Tensor:
    """√(C⁷ / (C⁷ + 25⁷))."""
    power = (chroma / 25) ** 7
    return (power / (power + 1)).sqrt()


def _cos(degrees: Tensor) -> Tensor:
    return torch.cos(torch.deg2rad(degrees))
