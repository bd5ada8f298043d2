"""Windows, gradients and roots shared by the metrics, on maps (B, H, W)."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

Taps = tuple[float, ...]

# Output rows that one block of a banded matrix product makes: enough to be a matrix product, few enough not to
# multiply mostly by the band's zeros.
_BLOCK = 16
# Pixels of a strip: its maps stay in a core's cache, and the memory needed does not grow with the image.
_STRIP = 2**16


@lru_cache(maxsize=32)
def gaussian(size: int, sigma: float) -> Taps:
    """Taps of exp(-x² / 2 sigma²) on the integer grid centred at 0, divided by their sum."""
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    return tuple((taps / taps.sum()).tolist())


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a validation may be the first to ask, and a loss the next
def _band(taps: Taps, rows: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    band = torch.zeros(rows, (rows - 1) * stride + len(taps), dtype=dtype)
    for row in range(rows):
        band[row, row * stride : row * stride + len(taps)] = torch.tensor(taps, dtype=dtype)
    return band.to(device)


def separable(maps: Tensor, taps: Taps, stride: int = 1) -> Tensor:
    """Filter with symmetric taps along both axes, without padding: (B, H, W) to (B, H-n+1, W-n+1), every stride-th.

    Each axis is a product of a small banded matrix with overlapping blocks of rows: on a CPU five times faster than
    adding shifted slices and far from a one-channel convolution. Callers pass float64, which no setting that trades
    precision for speed (TF32, autocast) touches.
    """
    return _filter_rows(_filter_rows(maps, taps, stride).mT, taps, stride).mT


def _filter_rows(maps: Tensor, taps: Taps, stride: int) -> Tensor:
    rows = (maps.shape[-2] - len(taps)) // stride + 1
    whole = rows - rows % _BLOCK
    parts = []
    if whole:
        band = _band(taps, _BLOCK, stride, maps.dtype, maps.device)
        blocks = maps.unfold(-2, band.shape[1], _BLOCK * stride).mT
        parts.append(torch.matmul(band, blocks).flatten(-3, -2))
    if whole < rows:
        band = _band(taps, rows - whole, stride, maps.dtype, maps.device)
        parts.append(torch.matmul(band, maps.narrow(-2, whole * stride, band.shape[1])))
    return torch.cat(parts, -2) if len(parts) > 1 else parts[0]


class Moments(NamedTuple):
    """Local means and biased variances of some images and covariances of some pairs, all (B, h, w)."""

    means: list[Tensor]
    variances: list[Tensor]
    covariances: list[Tensor]


def local_moments(
    images: Sequence[Tensor], pairs: Sequence[tuple[int, int]], taps: Taps, dtype: torch.dtype = torch.float64
) -> Iterator[Moments]:
    """Moments of images (B, H, W) in every valid window, one horizontal strip of windows after the other.

    Variances are E[x²] - E[x]², in float64 because the difference loses half the digits.

    Args:
        images: Maps of one size.
        pairs: Which images to take covariances of, as indices into `images`.
        taps: The window along either axis.
        dtype: The type to hand the moments out in.
    """
    for strip in strips(images, len(taps) - 1):
        levels = [image.double() for image in strip]
        means = [separable(x, taps) for x in levels]
        variances = [separable(x * x, taps) - mean * mean for x, mean in zip(levels, means, strict=True)]
        covariances = [separable(levels[i] * levels[j], taps) - means[i] * means[j] for i, j in pairs]
        yield Moments(*([x.to(dtype) for x in maps] for maps in (means, variances, covariances)))


def strips(images: Sequence[Tensor], overlap: int, pixels: int = _STRIP) -> Iterator[list[Tensor]]:
    """Horizontal strips of images (B, H, W) of one size, each `overlap` rows higher than the windows it has.

    Args:
        images: Maps to go through side by side.
        overlap: Rows of a window, less one.
        pixels: About how many windows a strip has.
    """
    batch, height, width = images[0].shape
    rows = max(pixels // (width * batch) // _BLOCK, 1) * _BLOCK
    for top in range(0, height - overlap, rows):
        yield [image[:, top : top + rows + overlap] for image in images]


def sobel(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel sums along x (left to right) and y (top to bottom): padded maps (B, H+2, W+2) to two of (B, H, W).

    Sums of shifted slices, so that integer levels give exact integers in float32 too.
    """
    smooth_y = torch.add(padded[:, :-2] + padded[:, 2:], padded[:, 1:-1], alpha=2)
    smooth_x = torch.add(padded[..., :-2] + padded[..., 2:], padded[..., 1:-1], alpha=2)
    return smooth_y[..., 2:] - smooth_y[..., :-2], smooth_x[:, 2:] - smooth_x[:, :-2]


def root(values: Tensor) -> Tensor:
    """Square root of values >= 0 whose gradient at 0 is 0 instead of infinite."""
    if not values.requires_grad:
        return values.sqrt()
    zero = values == 0
    return values.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
