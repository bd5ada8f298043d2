"""Attention across channels and across space, within one map or from one to another."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import (
    ChannelNorm,
    PointwiseConv2d,
    add,
    as_map,
    as_tokens,
    channel_products,
    merge_heads,
    mix_channels,
    split_heads,
)


class ChannelAttention(nn.Module):
    """Transposed attention: channels attend to channels, at a cost linear in the pixels (Restormer's MDTA).

    Queries come from one map, keys and values from the same or another one; both are mixed locally by a depthwise
    3×3 convolution. Similarity is the cosine between channels times a learned temperature per head.

    Args:
        channels: Number of channels C, a multiple of `heads`.
        heads: Number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_query, self.to_key, self.to_value = (pointwise_then_depthwise(channels, channels) for _ in range(3))
        self.to_out = PointwiseConv2d(channels, channels, bias=False)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """Let features (B, C, H, W) attend to `context` of the same shape, or to themselves."""
        context = features if context is None else context
        query, key = as_tokens(self.to_query(features)), as_tokens(self.to_key(context))
        # dividing the small D × D matrices by the norms spares a pass over the large maps
        norms = self._norms(query)[..., :, None] * self._norms(key)[..., None, :]
        similarity = channel_products(query, key, self.heads) / norms
        attention = (similarity * self.temperature).softmax(dim=-1)
        value = as_tokens(self.to_value(context))
        return as_map(mix_channels(value, attention.transpose(-1, -2), self.to_out), *features.shape[-2:])

    def _norms(self, tokens: Tensor) -> Tensor:
        """Length of every channel over tokens (B, N, heads·D) as (B, heads, D), float32, kept away from 0."""
        return (tokens.square().sum(dim=1, dtype=torch.float32) + 1e-12).sqrt().unflatten(1, (self.heads, -1))


class SpatialAttention(nn.Module):
    """Attention of every pixel to every pixel, for small maps.

    Args:
        channels: Number of channels C, a multiple of `heads`.
        heads: Number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query, self.to_key, self.to_value = (PointwiseConv2d(channels, channels, bias=False) for _ in range(3))
        self.to_out = PointwiseConv2d(channels, channels, bias=False)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """Let features (B, C, H, W) attend to `context` (B, C, h, w), or to themselves."""
        context = features if context is None else context
        maps = (self.to_query(features), self.to_key(context), self.to_value(context))
        query, key, value = (split_heads(as_tokens(part), self.heads) for part in maps)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(as_map(merge_heads(attended), *features.shape[-2:]))


class WindowAttention(nn.Module):
    """Attention of the pixels of a window to those of a larger, overlapping window (X-Restormer's spatial attention).

    A learned bias per head and displacement tells where a key lies. Keys beyond the border repeat the border.

    Args:
        channels: Number of channels C, a multiple of `heads`.
        heads: Number of heads.
        window: Side of the query windows in pixels.
        overlap: By how many pixels the key windows reach further on every side.
    """

    displacement: Tensor

    def __init__(self, channels: int, heads: int, window: int = 8, overlap: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.overlap = overlap
        reach = window + 2 * overlap
        self.to_query, self.to_key, self.to_value = (PointwiseConv2d(channels, channels, bias=False) for _ in range(3))
        self.to_out = PointwiseConv2d(channels, channels, bias=False)
        span = window + reach - 1
        self.bias = nn.Parameter(torch.zeros(heads, span * span))
        # displacements along one side, (window, reach), counted from 0 to span − 1
        offset = torch.arange(reach)[None, :] - torch.arange(window)[:, None] + window - 1
        index = offset[:, None, :, None] * span + offset[None, :, None, :]
        self.register_buffer("displacement", index.reshape(window**2, reach**2), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Attend within features (B, C, H, W)."""
        batch, _, height, width = features.shape
        query = split_heads(self._windows(self.to_query(features), 0), self.heads)
        key, value = (
            split_heads(self._windows(to(features), self.overlap), self.heads) for to in (self.to_key, self.to_value)
        )
        bias = self.bias[None, :, self.displacement].to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        # rounded up without negative numbers, which ONNX divides otherwise
        rows, columns = ((side + self.window - 1) // self.window for side in (height, width))
        windows = merge_heads(attended).unflatten(1, (self.window, self.window)).unflatten(0, (batch, rows, columns))
        merged = windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        return self.to_out(merged.permute(0, 3, 1, 2))

    def _windows(self, features: Tensor, overlap: int) -> Tensor:
        """Cut features (B, C, H, W) into windows (B·windows, side², C), side = window + 2·overlap."""
        pixels = features.permute(0, 2, 3, 1)
        for dim in (1, 2):
            size = pixels.shape[dim]
            starts = torch.arange(0, size, self.window, device=features.device)
            offsets = torch.arange(-overlap, self.window + overlap, device=features.device)
            # clamped positions repeat the border
            pixels = pixels.index_select(dim, (starts[:, None] + offsets).clamp(0, size - 1).flatten())
        side = self.window + 2 * overlap
        windows = pixels.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
        return windows.reshape(-1, side * side, features.shape[1])


class GatedFeedForward(nn.Module):
    """Depthwise feed-forward whose one half gates the other (Restormer's GDFN).

    Args:
        channels: Number of channels C.
        expansion: Hidden channels per channel, about; their number is a multiple of 8, which kernels are fast at.
    """

    def __init__(self, channels: int, expansion: float = 2.66) -> None:
        super().__init__()
        hidden = max(8, 8 * round(channels * expansion / 8))
        # two convolutions, not the halves of one: activations run several times faster on contiguous maps
        self.gate, self.content = (pointwise_then_depthwise(channels, hidden) for _ in range(2))
        self.project = PointwiseConv2d(hidden, channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Transform features (B, C, H, W)."""
        return self.project(F.gelu(self.gate(features)) * self.content(features))


class AttentionBlock(nn.Module):
    """An attention, then a gated feed-forward, each normalised before and added to its input."""

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attention = attention
        self.norm2 = ChannelNorm(channels)
        self.feed_forward = GatedFeedForward(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Transform features (B, C, H, W)."""
        features = add(self.attention(self.norm1(features)), features)
        return add(self.feed_forward(self.norm2(features)), features)


class TSAB(AttentionBlock):
    """Transposed self-attention block: which channels belong together."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, ChannelAttention(channels, heads))


class SSAB(AttentionBlock):
    """Spatial self-attention block: which neighbouring pixels belong together."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, WindowAttention(channels, heads))


class CrossAttention(nn.Module):
    """Join two streams: each asks the other for what it lacks, then both are merged into one map.

    Args:
        channels: Number of channels C of each stream and of the result.
        heads: Number of heads.
        spatial: Whether pixels attend to pixels (small maps) instead of channels to channels.
    """

    def __init__(self, channels: int, heads: int, spatial: bool) -> None:
        super().__init__()
        attention = SpatialAttention if spatial else ChannelAttention
        self.norm_a, self.norm_b = ChannelNorm(channels), ChannelNorm(channels)
        self.a_from_b, self.b_from_a = attention(channels, heads), attention(channels, heads)
        self.merge = PointwiseConv2d(2 * channels, channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Join a and b (B, C, H, W) to (B, C, H, W)."""
        normal_a, normal_b = self.norm_a(a), self.norm_b(b)
        a = a + self.a_from_b(normal_a, normal_b)
        b = b + self.b_from_a(normal_b, normal_a)
        return self.merge(torch.cat((a, b), dim=1))


def pointwise_then_depthwise(channels: int, out_channels: int) -> nn.Sequential:
    """1×1 convolution across channels, then a 3×3 convolution within each channel."""
    return nn.Sequential(
        PointwiseConv2d(channels, out_channels, bias=False),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False),
    )
