"""Windows, gradients and roots shared by the metrics, on maps (B, H, W)."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Taps = tuple[float, ...]

# Output rows that one block of a banded matrix product makes: enough to be a matrix product, few enough not to
# multiply mostly by the band's zeros.
_BLOCK = 16
# Bytes of a strip: its maps stay in a core's cache, and the memory needed does not grow with the image.
_STRIP = 2**19


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
    adding shifted slices and far from a one-channel convolution. `working_type` says when float32 is safe here.
    """
    return _filter_rows(_filter_rows(maps, taps, stride).mT, taps, stride).mT


def _filter_rows(maps: Tensor, taps: Taps, stride: int) -> Tensor:
    rows = (maps.shape[-2] - len(taps)) // stride + 1
    count = rows // _BLOCK
    parts = []
    if count:
        band = _band(taps, _BLOCK, stride, maps.dtype, maps.device)
        blocks = maps.unfold(-2, band.shape[1], _BLOCK * stride).flatten(0, 1).mT
        parts.append(torch.bmm(band.expand(len(blocks), -1, -1), blocks).view(len(maps), -1, maps.shape[-1]))
    if rows % _BLOCK:
        band = _band(taps, rows % _BLOCK, stride, maps.dtype, maps.device)
        parts.append(torch.matmul(band, maps.narrow(-2, count * _BLOCK * stride, band.shape[1])))
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

    Variances are E[x²] - E[x]², a difference that loses half the digits: float64 can afford it, float32 only once the
    image's mean is taken off, which leaves an error of about 1e-3 grey levels² in 0..255.

    Args:
        images: Maps of one size.
        pairs: Which images to take covariances of, as indices into `images`.
        taps: The window along either axis.
        dtype: The type to compute in; `working_type` says where float32 keeps its digits.
    """
    rounded = dtype == torch.float32
    centres = [image.detach().mean((1, 2), keepdim=True, dtype=dtype) if rounded else 0.0 for image in images]
    overlap = len(taps) - 1
    for strip in strips(images, overlap, dtype):
        height, width = strip[0].shape[1] - overlap, strip[0].shape[2] - overlap
        levels = [image.to(dtype) - c if rounded else image.to(dtype) for image, c in zip(strip, centres, strict=True)]
        if width % _BLOCK or height % _BLOCK:  # cheaper than to put every product together from two
            levels = [F.pad(image, (0, -width % _BLOCK, 0, -height % _BLOCK)) for image in levels]

        def mean(x: Tensor, height: int = height, width: int = width) -> Tensor:
            return separable(x, taps)[:, :height, :width]

        means = [mean(x) for x in levels]
        variances = [torch.addcmul(mean(x * x), m, m, value=-1) for x, m in zip(levels, means, strict=True)]
        covariances = [torch.addcmul(mean(levels[i] * levels[j]), means[i], means[j], value=-1) for i, j in pairs]
        yield Moments([m + c if rounded else m for m, c in zip(means, centres, strict=True)], variances, covariances)


def working_type(image: Tensor) -> torch.dtype:
    """The type to filter in: float32 for float32 images, but float64 where products of float32 matrices are rounded."""
    try:
        exact = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # precisions were set backend by backend
        exact = False
    return torch.float32 if exact and image.dtype == torch.float32 else torch.float64


def strips(images: Sequence[Tensor], overlap: int, dtype: torch.dtype, size: int = _STRIP) -> Iterator[list[Tensor]]:
    """Horizontal strips of images (B, H, W) of one size, each `overlap` rows higher than the windows it has.

    Args:
        images: Maps to go through side by side.
        overlap: Rows of a window, less one.
        dtype: The type that the strips are worked on in.
        size: About how many bytes a map of a strip has in this type.
    """
    batch, height, width = images[0].shape
    rows = max(size // (width * batch * dtype.itemsize) // _BLOCK, 1) * _BLOCK
    for top in range(0, height - overlap, rows):
        yield [image[:, top : top + rows + overlap] for image in images]


def sobel(padded: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel sums along x (left to right) and y (top to bottom): padded maps (..., H+2, W+2) to two of (..., H, W).

    Sums of shifted slices, so that integer levels give exact integers in float32 too.
    """
    smooth_y = torch.add(padded[..., :-2, :] + padded[..., 2:, :], padded[..., 1:-1, :], alpha=2)
    smooth_x = torch.add(padded[..., :-2] + padded[..., 2:], padded[..., 1:-1], alpha=2)
    return smooth_y[..., 2:] - smooth_y[..., :-2], smooth_x[..., 2:, :] - smooth_x[..., :-2, :]


def sum_up(maps: Tensor) -> Tensor:
    """Sum of every map of a strip: (B, h, w) to (B,) float64. Pairwise, so float32 keeps its digits within a strip."""
    return maps.sum((1, 2)).double()


def flags(comparison: Callable[..., Tensor], x: Tensor, y: Tensor | float) -> Tensor:
    """1 where `comparison` (such as `torch.gt`) holds and 0 elsewhere, in the type of `x`.

    Arithmetic with it takes a third of the time of a mask, which is not vectorised. It has no gradient.
    """
    y = y.detach() if isinstance(y, Tensor) else y
    return comparison(x.detach(), y, out=torch.empty_like(x, requires_grad=False))


def root(values: Tensor) -> Tensor:
    """Square root of values >= 0 whose gradient at 0 is 0 instead of infinite."""
    if not values.requires_grad:
        return values.sqrt()
    zero = values == 0
    return values.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
