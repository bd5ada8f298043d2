"""Tiled fusion of images too large for the memory, with blended overlaps."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, sources, to_device
from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod

_GRID = 64
"""Tiles begin at its multiples, where windows of 8 pixels at an eighth of the size begin in the whole image too."""
_OVERLAP = 64
"""Pixels that neighbouring tiles share."""
_DISCARDED = 24
"""Pixels at a tile's inner border that are thrown away: what lies beyond it was missing there."""
_BYTES_PER_PIXEL = 8192
"""Memory that fusing a pixel takes at most, about: the base and large networks in float32."""
_SMALLEST, _LARGEST = 3 * _GRID, 2048


def check_tile(tile: int | None) -> None:
    """Refuse a side that tiles cannot have.

    Raises:
        UserError: If it is neither None nor 0 nor a multiple of 64 from 192 on.
    """
    if tile is not None and tile != 0 and (tile < _SMALLEST or tile % _GRID):
        raise UserError(f"--tile must be a multiple of {_GRID} of at least {_SMALLEST}, or 0, but got {tile}")


def find_tile(tile: int | None, method: FusionMethod, batch: FusionBatch) -> int | None:
    """The side of the tiles in which a batch is fused; None fuses it whole, as one tile would.

    Args:
        tile: What the user asked for, checked by `check_tile`; 0 is the whole image, None decides by the free memory:
            half of it has to be enough for the network. A method without a network always takes the whole image then.
        method: What fuses.
        batch: What is fused.
    """
    height, width = _size(batch)
    if tile is None:
        memory = _free_memory(method.device)
        pixels = len(batch["name"]) * height * width
        if memory is None or pixels * _BYTES_PER_PIXEL <= memory / 2 or next(method.parameters(), None) is None:
            return None
        side = math.isqrt(memory // 2 // _BYTES_PER_PIXEL) // _GRID * _GRID
        tile = min(max(side, _SMALLEST), _LARGEST)
    return tile if 0 < tile < max(height, width) else None


def fuse_in_tiles(method: FusionMethod, batch: FusionBatch, controls: Controls | None, tile: int) -> FusionOutput:
    """Fuse a batch tile by tile.

    A method that sees only a neighbourhood gives what it gives for the whole image. One that looks at the whole image
    (`FusionMethod.sees_whole_image`) sees one tile at a time.

    Args:
        method: What fuses.
        batch: Sources of any size; one that is smaller by a whole factor is cut where it belongs.
        controls: As in `FusionMethod.fuse`.
        tile: Side of the tiles in pixels, a multiple of 64.

    Returns:
        The method's output, on the CPU.
    """
    images, (height, width) = _cuttable(method, batch), _size(batch)
    whole: dict[str, Tensor] = {}
    for top, bottom in _spans(height, tile):
        for left, right in _spans(width, tile):
            a, b = (_cut(image, (height, width), (top, bottom, left, right)) for image in images)
            # the name seeds a method's noise, which must not repeat from tile to tile
            names = [f"{name}/{top}/{left}" for name in batch["name"]]
            part = FusionBatch(
                source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=batch["degradation"], name=names
            )
            weight = _weight(top, bottom, height)[:, None] * _weight(left, right, width)
            for key, value in method(to_device(part, method.device), controls).items():
                assert isinstance(value, Tensor)
                canvas = whole.setdefault(key, torch.zeros(*value.shape[:-2], height, width))
                canvas[..., top:bottom, left:right] += value.float().cpu() * weight
    return FusionOutput(**whole)  # type: ignore[typeddict-item]


def _size(batch: FusionBatch) -> tuple[int, int]:
    """H and W of the result: those of the larger source."""
    a, b = batch["source_a"], batch["source_b"]
    return max(a.shape[-2], b.shape[-2]), max(a.shape[-1], b.shape[-1])


def _cuttable(method: FusionMethod, batch: FusionBatch) -> tuple[Tensor, Tensor]:
    """Both sources: of one size, or one smaller by a whole factor where the method asks for its sensor's own size."""
    if not method.uses_degradation:
        return sources(batch)
    a, b = batch["source_a"], batch["source_b"]
    height, width = _size(batch)
    for image in (a, b):
        factor = height // image.shape[-2]
        if image.shape[-2] * factor != height or image.shape[-1] * factor != width or _GRID % factor:
            raise UserError(
                f"a source of {image.shape[-2]}×{image.shape[-1]} cannot be cut into tiles beside {height}×{width}: "
                "give --tile 0"
            )
    return a, b


def _cut(image: Tensor, size: tuple[int, int], box: tuple[int, int, int, int]) -> Tensor:
    factor = size[0] // image.shape[-2]
    top, bottom, left, right = (edge // factor for edge in box)
    return image[..., top:bottom, left:right]


def _spans(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Where tiles begin and end along a side; every one is longer than the overlap."""
    for start in range(0, max(length - _OVERLAP, 1), tile - _OVERLAP):
        yield start, min(start + tile, length)


def _weight(start: int, end: int, length: int) -> Tensor:
    """How much a tile counts along a side: 1 inside and at the image's border, falling to 0 within the overlaps."""
    blended = _OVERLAP - 2 * _DISCARDED
    rise = ((torch.arange(_OVERLAP) - _DISCARDED + 0.5) / blended).clamp(0, 1)
    weight = torch.ones(end - start)
    if start > 0:
        weight[:_OVERLAP] = rise
    if end < length:
        weight[-_OVERLAP:] *= rise.flip(0)
    return weight


def _free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
