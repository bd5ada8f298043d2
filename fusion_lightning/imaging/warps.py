"""Warps between the frames of two images, on tensors (B, 2, H, W): x and y in pixels.

A warp says for every pixel of one frame where it lies in another image, and brings that image into the frame:
aligned(p) = image(W(p)). The centre of the first pixel is (0, 0).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 12
"""Fixed-point rounds of an inversion: where neighbours move apart by a third of a pixel, an error of 40 pixels becomes
one of 1e-4."""


def identity(size: tuple[int, int], like: Tensor) -> Tensor:
    """The warp (1, 2, H, W) that moves nothing, of the type and on the device of a tensor."""
    y = torch.arange(size[0], dtype=like.dtype, device=like.device)
    x = torch.arange(size[1], dtype=like.dtype, device=like.device)
    return torch.stack((x.expand(size), y[:, None].expand(size)))[None]


def from_affine(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """The warp p ↦ M p + t of matrices (M | t), (B, 2, 3), in pixels; (B, 2, H, W)."""
    points = identity(size, matrix).flatten(2)
    moved = matrix[..., :2] @ points + matrix[..., 2:]
    return moved.unflatten(2, size)


def sample(image: Tensor, warp: Tensor) -> Tensor:
    """An image (B, C, h, w) in the frame of a warp (B, 2, H, W): bilinear, the border repeated; (B, C, H, W)."""
    height, width = image.shape[-2:]
    scale = warp.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)]).view(2, 1, 1)
    grid = (warp * scale - 1).permute(0, 2, 3, 1)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode="border", align_corners=True)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The warp p ↦ outer(inner(p)); beyond its frame `outer` moves points as its border does."""
    return inner + sample(outer - identity(_size(outer), outer), inner)


def invert(warp: Tensor) -> Tensor:
    """The inverse of a warp within one frame, by fixed-point rounds q ← p − d(q), d(p) = W(p) − p.

    Right where the inverse stays in the frame and the warp nowhere folds or doubles distances.
    """
    start = identity(_size(warp), warp)
    displacement = warp - start
    inverse = start.expand_as(warp)
    for _ in range(_ROUNDS):
        inverse = start - sample(displacement, inverse)
    return inverse


def inside(warp: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels a warp (B, 2, H, W) takes from inside an image of a size: (B, 1, H, W), boolean."""
    last = warp.new_tensor([size[1] - 1, size[0] - 1]).view(2, 1, 1)
    return ((warp >= 0) & (warp <= last)).all(dim=1, keepdim=True)


def _size(warp: Tensor) -> tuple[int, int]:
    return warp.shape[-2], warp.shape[-1]
