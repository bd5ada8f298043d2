"""Small layers that the networks share."""

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


def as_tokens(features: Tensor, heads: int) -> Tensor:
    """View features (B, C, H, W) as tokens per head (B, heads, H·W, C / heads)."""
    return features.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)


def as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn tokens per head (B, heads, H·W, D) back into features (B, heads·D, H, W), channels last in memory."""
    return tokens.transpose(1, 2).flatten(2).unflatten(1, (height, width)).permute(0, 3, 1, 2)
