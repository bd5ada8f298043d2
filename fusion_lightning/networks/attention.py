"""Attention across channels and across space, within one map or from one to another."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import ChannelNorm, as_map, as_tokens, pad_to_multiple


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
        self.to_query = _pointwise_then_depthwise(channels, channels)
        self.to_key_value = _pointwise_then_depthwise(channels, 2 * channels)
        self.to_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """Let features (B, C, H, W) attend to `context` of the same shape, or to themselves."""
        key, value = self.to_key_value(features if context is None else context).chunk(2, dim=1)
        query, key, value = (as_tokens(part, self.heads) for part in (self.to_query(features), key, value))
        # Dividing the small C × C matrix by the norms spares a pass over the large maps.
        norms = _channel_norms(query).transpose(-1, -2) * _channel_norms(key)
        similarity = (query.transpose(-1, -2) @ key) / norms
        attention = (similarity * self.temperature).softmax(dim=-1).to(value.dtype)
        return self.to_out(as_map(value @ attention.transpose(-1, -2), *features.shape[-2:]))


class SpatialAttention(nn.Module):
    """Attention of every pixel to every pixel, for small maps.

    Args:
        channels: Number of channels C, a multiple of `heads`.
        heads: Number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_key_value = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """Let features (B, C, H, W) attend to `context` (B, C, h, w), or to themselves."""
        key, value = self.to_key_value(features if context is None else context).chunk(2, dim=1)
        query, key, value = (as_tokens(part, self.heads) for part in (self.to_query(features), key, value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(as_map(attended, *features.shape[-2:]))


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
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1, bias=False)
        span = window + reach - 1
        self.bias = nn.Parameter(torch.zeros(heads, span * span))
        # Displacements along one side, (window, reach), counted from 0 to span − 1.
        offset = torch.arange(reach)[None, :] - torch.arange(window)[:, None] + window - 1
        index = offset[:, None, :, None] * span + offset[None, :, None, :]
        self.register_buffer("displacement", index.reshape(window**2, reach**2), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Attend within features (B, C, H, W)."""
        channels, height, width = features.shape[1:]
        query, key_value = self.to_qkv(pad_to_multiple(features, self.window)).split((channels, 2 * channels), dim=1)
        key_value = F.pad(key_value, (self.overlap,) * 4, mode="replicate")
        rows, columns = query.shape[-2] // self.window, query.shape[-1] // self.window
        query = self._windows(query, self.window)
        key, value = self._windows(key_value, self.window + 2 * self.overlap).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        bias = self.bias[:, self.displacement].to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        attended = attended.transpose(1, 2).reshape(len(features), rows, columns, self.window, self.window, -1)
        merged = attended.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return self.to_out(merged[..., :height, :width])

    def _windows(self, features: Tensor, side: int) -> Tensor:
        """Cut features (B, C, H, W) into windows (B·windows, side², C), one every `self.window` pixels."""
        windows = features.permute(0, 2, 3, 1).unfold(1, side, self.window).unfold(2, side, self.window)
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, features.shape[1])


class GatedFeedForward(nn.Module):
    """Depthwise feed-forward whose one half gates the other (Restormer's GDFN).

    Args:
        channels: Number of channels C.
        expansion: Hidden channels per channel.
    """

    def __init__(self, channels: int, expansion: float = 2.66) -> None:
        super().__init__()
        hidden = round(channels * expansion)
        self.expand = _pointwise_then_depthwise(channels, 2 * hidden)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Transform features (B, C, H, W)."""
        gate, content = self.expand(features).chunk(2, dim=1)
        return self.project(F.gelu(gate) * content)


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
        features = features + self.attention(self.norm1(features))
        return features + self.feed_forward(self.norm2(features))


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
        self.merge = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Join a and b (B, C, H, W) to (B, C, H, W)."""
        normal_a, normal_b = self.norm_a(a), self.norm_b(b)
        a = a + self.a_from_b(normal_a, normal_b)
        b = b + self.b_from_a(normal_b, normal_a)
        return self.merge(torch.cat((a, b), dim=1))


def _pointwise_then_depthwise(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False),
    )


def _channel_norms(tokens: Tensor) -> Tensor:
    """Length of every channel of tokens (B, heads, N, D) as (B, heads, 1, D), float32, kept away from 0."""
    return torch.linalg.vector_norm(tokens, dim=-2, keepdim=True, dtype=torch.float32).clamp_min(1e-6)
