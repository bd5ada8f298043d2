"""Colour spaces: RGB, grey and YCbCr, on tensors (..., C, H, W) in [0, 1].

The transform is the full-range BT.601 one (JPEG's): luma 0.299 R + 0.587 G + 0.114 B, chroma centred on 0.5.
"""

from typing import Literal

import torch
from torch import Tensor

ColorRule = Literal["saturation", "chroma"]
"""What stays of a colour when the fusion changes its luma."""

_LUMA = (0.299, 0.587, 0.114)
_CB = (-0.168735892, -0.331264108, 0.5)
_CR = (0.5, -0.418687589, -0.081312411)
_DARK = 0.02
"""Luma that is added to both sides of a ratio: the chroma of black is noise."""
_MOST = 2.0
"""How many times chroma may grow; 1.5 leaves more colours pale, 3 changes little but the noise of dark sources."""


def rgb_to_luma(image: Tensor) -> Tensor:
    """Luma of an RGB image, or the grey image itself; (..., 3 or 1, H, W) to (..., 1, H, W)."""
    if image.shape[-3] == 1:
        return image
    _check_rgb(image)
    return _weigh(image, _LUMA)


def rgb_to_cbcr(image: Tensor) -> Tensor:
    """Chroma (Cb, Cr) of an RGB image; (..., 3, H, W) to (..., 2, H, W); a grey image has 0.5 everywhere."""
    if image.shape[-3] == 1:
        return torch.full_like(image, 0.5).repeat_interleave(2, dim=-3)
    _check_rgb(image)
    return torch.cat((_weigh(image, _CB), _weigh(image, _CR)), dim=-3) + 0.5


def ycbcr_to_rgb(luma: Tensor, cbcr: Tensor) -> Tensor:
    """Put luma (..., 1, H, W) and chroma (..., 2, H, W) together to RGB (..., 3, H, W); not clipped to [0, 1]."""
    blue, red = (cbcr - 0.5).split(1, dim=-3)
    return torch.cat((luma + 1.402 * red, luma - 0.344136286 * blue - 0.714136286 * red, luma + 1.772 * blue), dim=-3)


def cbcr_of(*images: Tensor) -> Tensor | None:
    """Chroma (..., 2, H, W) of the first image that is in colour; None if all are grey."""
    return next((rgb_to_cbcr(image) for image in images if image.shape[-3] == 3), None)


def with_chroma(luma: Tensor, cbcr: Tensor | None) -> Tensor:
    """Give luma (..., 1, H, W) its chroma (..., 2, H, W), if there is one: (..., 1 or 3, H, W) in [0, 1]."""
    return (luma if cbcr is None else ycbcr_to_rgb(luma, cbcr)).clamp(0, 1)


def keep_saturation(fused: Tensor, source: Tensor) -> Tensor:
    """Scale the chroma of a fusion with its luma, so that colours keep the saturation of the source.

    A fusion that is brighter than its source in colour and keeps that chroma is paler: red turns pink. Here chroma is
    scaled as luma was, g = (Y_fused + ε) / (Y_source + ε), between a half and twice, and no further than the RGB cube
    reaches, so that nothing is clipped and no hue turns.

    Args:
        fused: The fusion, RGB (..., 3, H, W) in [0, 1].
        source: The source in colour, or as it was restored, of the same shape.

    Returns:
        RGB (..., 3, H, W) in [0, 1], of the fusion's luma.
    """
    luma = rgb_to_luma(fused)
    gain = ((luma + _DARK) / (rgb_to_luma(source) + _DARK)).clamp(1 / _MOST, _MOST)
    offset = fused - luma
    room = torch.where(offset > 0, 1 - luma, luma) / offset.abs().clamp(min=1e-6)
    return (luma + torch.minimum(gain, room.amin(dim=-3, keepdim=True)) * offset).clamp(0, 1)


def as_rgb(image: Tensor) -> Tensor:
    """Three channels: an RGB image itself, a grey one repeated."""
    return image.expand(*image.shape[:-3], 3, *image.shape[-2:])


def _weigh(image: Tensor, weights: tuple[float, float, float]) -> Tensor:
    red, green, blue = image.split(1, dim=-3)
    return weights[0] * red + weights[1] * green + weights[2] * blue


def _check_rgb(image: Tensor) -> None:
    if image.shape[-3] != 3:
        raise ValueError(f"`image` must have 1 or 3 channels, but got shape {tuple(image.shape)}")
