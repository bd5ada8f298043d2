"""Small layers that the networks share."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer normalisation across the channels of every pixel.

    Written over the transposed view: in the channels-last layout that view is contiguous and PyTorch's fused kernel
    does the whole normalisation in one pass. The ε is the same for every number type, so that mixed precision
    computes the same function.

    Args:
        channels: Number of channels C.
        bias: Whether an offset is learned beside the gain.
    """

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-5, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, C, H, W)."""
        return self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend an image (B, C, H, W) to the right and below until H and W are multiples of `multiple`.

    Mirrors the image; repeats its last row or column instead where the image is too small to mirror.
    """
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return image
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, below), mode=mode)


def extend_border(features: Tensor, width: int, mode: Literal["replicate", "reflect"]) -> Tensor:
    """Repeat or mirror the border of features (B, C, H, W) by `width` pixels on every side.

    Outside mixed precision, which would copy half-precision features to float32 for this, and back.
    """
    with torch.autocast(features.device.type, enabled=False):
        return F.pad(features, (width,) * 4, mode=mode)


def as_tokens(features: Tensor) -> Tensor:
    """View features (B, C, H, W) as tokens (B, H·W, C)."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn tokens (B, H·W, C) into features (B, C, H, W), a view that is channels-last in memory."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """View tokens (B, N, heads·D) per head, as (B, heads, N, D)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """Put tokens (B, heads, N, D) together again, to (B, N, heads·D)."""
    return tokens.transpose(1, 2).flatten(2)


def channel_products(left: Tensor, right: Tensor, heads: int) -> Tensor:
    """Products of channels summed over tokens, leftᵀ·right per head; twice (B, N, heads·D) to (B, heads, D, D).

    Forms the products across heads too and picks the heads' blocks: one large product costs less than copying the
    tokens apart. Image by image, because the batched product in bfloat16 copies its transposed argument (5× slower).
    """
    products = torch.stack([x.t() @ y for x, y in zip(left, right, strict=True)])
    return products.unflatten(2, (heads, -1)).unflatten(1, (heads, -1)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def mix_channels(tokens: Tensor, mixing: Tensor, project: nn.Conv2d) -> Tensor:
    """Mix the channels of tokens (B, N, heads·D) by `mixing` (B, heads, D, D), then apply a 1×1 convolution.

    The two small matrices are multiplied first, so that the tokens are read and written once: (B, N, C).
    """
    projection = project.weight.flatten(1).unflatten(1, (mixing.shape[1], -1))
    weight = torch.einsum("ohe,bhde->bhdo", projection, mixing.to(projection.dtype)).flatten(1, 2)
    mixed = tokens @ weight
    return mixed if project.bias is None else mixed + project.bias.to(mixed.dtype)
