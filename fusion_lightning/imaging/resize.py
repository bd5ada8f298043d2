"""Resizing images to one size (bicubic), and continuing small ones."""

import torch
import torch.nn.functional as F
from torch import Tensor


def covered(small: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """What the pixels of a smaller image cover in a larger one of `size`, (height, width) each.

    ⌈H / k⌉ × ⌈W / k⌉ pixels are blocks of k × k, of which the last ones can reach beyond H × W; stretched over H × W
    they would lie up to k pixels beside their places. Any other image covers `size`.
    """
    by = max(-(-whole // part) for whole, part in zip(size, small, strict=True))
    return (small[0] * by, small[1] * by) if (-(-size[0] // by), -(-size[1] // by)) == small else size


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge an image (B, C, h, w) in [0, 1] to (B, C, H, W), bicubic, blocks to their places (`covered`).

    One of that size stays as it is.
    """
    if image.shape[-2:] == size:
        return image
    whole = covered((image.shape[-2], image.shape[-1]), size)
    enlarged = F.interpolate(image, whole, mode="bicubic", align_corners=False)
    return enlarged[..., : size[0], : size[1]].clamp(0, 1)


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarge the image of lower resolution (bicubic) to the size of the other; (B, C, H, W) in [0, 1]."""
    size = (max(a.shape[-2], b.shape[-2]), max(a.shape[-1], b.shape[-1]))
    return enlarge(a, size), enlarge(b, size)


def at_least(image: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W), continued by their mirror images, to and fro, below and to the right where they are smaller.

    Args:
        image: The images.
        side: The least height and width.
    """
    rows, columns = (_mirrored(length, side, image.device) for length in image.shape[-2:])
    return image.index_select(-2, rows).index_select(-1, columns)


def _mirrored(length: int, side: int, device: torch.device) -> Tensor:
    """Which row is shown at each of at least so many; the last one is repeated where the mirror begins."""
    index = torch.arange(max(length, side), device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
