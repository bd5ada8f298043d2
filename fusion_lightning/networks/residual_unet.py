"""CLED-Fusion's restoration network (stage 1): a U-Net that predicts what a degradation added to an image."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.networks.layers import (
    ChannelNorm,
    GroupNorm,
    OpponentColors,
    PointwiseConv2d,
    add,
    as_map,
    as_tokens,
    merge_heads,
    mix_channels,
    pad_to_multiple,
    silu,
    split_heads,
    token_products,
    works_in_place,
)

UNetSize = Literal["tiny", "small", "base", "large"]

WIDTHS: dict[str, tuple[int, int, int, int]] = {
    "tiny": (32, 32, 32, 32),
    "small": (32, 64, 64, 128),
    "base": (64, 128, 128, 256),
    "large": (64, 128, 256, 512),
}
"""Channels of the four levels; the published networks have 0.9, 3.3, 12.4 and 36.26 million parameters."""

_HEADS = 4
_HEAD_CHANNELS = 32
_HEAD_STD = 0.03


class ResidualUNet(nn.Module):
    """U-Net that predicts the residual I_res = I_in − I_0, or as a second network the noise ε, from a state I_t.

    Four levels of two time-conditioned residual blocks and linear attention, full attention in the middle.
    Images enter and residuals leave in `OpponentColors`, which learn faster than RGB.
    Weights lie channels-last in memory, and features follow them.

    Args:
        size: `tiny`, `small`, `base` or `large`; see `WIDTHS`.
        branch_init: How strong the branches beside an identity begin. With a tenth, training begins near a linear
            filter of the degraded image instead of under thirty random layers: better for a training of two minutes,
            worse for longer ones.

    Raises:
        UserError: If `size` is none of the four, or `branch_init` is negative.
    """

    def __init__(self, size: UNetSize = "base", branch_init: float = 1.0) -> None:
        super().__init__()
        check_choice("size", size, WIDTHS)
        if branch_init < 0:
            raise UserError(f"`branch_init` must be at least 0, but got {branch_init}")
        widths = WIDTHS[size]
        first, deepest = widths[0], widths[-1]
        time_channels = 4 * first
        self.colors = OpponentColors()
        self.stem = nn.Conv2d(2 * 3, first, 7, padding=3)
        self.time = TimeEmbedding(first, time_channels)
        self.encoder = nn.ModuleList(
            EncoderLevel(width, below, time_channels, last=level == len(widths) - 1)
            for level, (width, below) in enumerate(pairwise((first, *widths)))
        )
        self.middle_in = ResidualBlock(deepest, deepest, time_channels)
        self.middle_attention = FullAttention(deepest)
        self.middle_out = ResidualBlock(deepest, deepest, time_channels)
        self.decoder = nn.ModuleList(
            DecoderLevel(width, above, time_channels, last=level == len(widths) - 1)
            for level, (width, above) in enumerate(pairwise((*reversed(widths), first)))
        )
        self.final = ResidualBlock(2 * first, first, time_channels)
        self.head = PointwiseConv2d(first, 3)
        nn.init.normal_(self.head.weight, std=_HEAD_STD)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        for block in self.modules():
            if isinstance(block, ResidualBlock):
                nn.init.constant_(block.norm2.weight, branch_init)
            elif isinstance(block, LinearAttention):
                nn.init.constant_(block.norm_out.norm.weight, branch_init)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, state: Tensor, degraded: Tensor, time: Tensor) -> Tensor:
        """Predict the residual.

        Args:
            state: I_t, (B, 3, H, W); images span [−1, 1]. Any H and W.
            degraded: I_in, (B, 3, H, W) in [−1, 1].
            time: How far along the diffusion each image is, (B,), as ᾱ_t·T in [0, T].

        Returns:
            I_res^θ, (B, 3, H, W), not clamped: residuals of images in [−1, 1] span [−2, 2].
        """
        height, width = state.shape[-2:]
        images = torch.cat((self.colors(state), self.colors(degraded)), dim=1)
        features = self.stem(pad_to_multiple(images, 2 ** (len(self.encoder) - 1)))
        stem = features
        time = self.time(time)
        skips: list[Tensor] = []
        for down in self.encoder:
            features, inner, outer = down(features, time)
            skips += inner, outer
        features = self.middle_in(features, time)
        features = self.middle_attention(features)
        features = self.middle_out(features, time)
        for up in self.decoder:
            features = up(features, skips.pop(), skips.pop(), time)
        features = self.final(torch.cat((features, stem), dim=1), time)
        return self.colors.to_rgb(self.head(features)[..., :height, :width])

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Context in which filters are standardised once: for sampling, where weights do not change.

        A `with` block instead of a cache, because nothing tells a cache that weights were swapped beneath it.
        """
        convolutions = [module for module in self.modules() if isinstance(module, StandardizedConv2d)]
        try:
            with torch.no_grad():
                for convolution in convolutions:
                    device = convolution.weight.device.type
                    half = torch.is_autocast_enabled(device)
                    dtype = torch.get_autocast_dtype(device) if half else convolution.weight.dtype
                    convolution.fixed = convolution.standardized().to(dtype)
            yield
        finally:
            for convolution in convolutions:
                convolution.fixed = None


class TimeEmbedding(nn.Module):
    """Sinusoids of the time, then a small perceptron; (B,) to (B, out_channels)."""

    frequencies: Tensor

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        half = channels // 2
        frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=torch.float64))
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(channels, out_channels), nn.GELU(), nn.Linear(out_channels, out_channels))

    def forward(self, time: Tensor) -> Tensor:
        """Embed times (B,)."""
        angles = time.float()[:, None] * self.frequencies
        return self.mlp(torch.cat((angles.sin(), angles.cos()), dim=1))


class StandardizedConv2d(nn.Conv2d):
    """Convolution whose filters are brought to zero mean and unit variance before use (Qiao et al., 2019).

    Normalising the flattened filters is a layer normalisation, so one fused kernel does it and its gradient.
    """

    fixed: Tensor | None = None
    """The filters as `ResidualUNet.fixed_weights` prepared them, while it is in force."""

    def standardized(self) -> Tensor:
        """The filters with zero mean and unit variance."""
        rows = self.weight.permute(0, 2, 3, 1)  # the memory order of channels-last weights: no copy
        return F.layer_norm(rows, rows.shape[1:], eps=1e-5).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve features (B, C, H, W)."""
        weight = self.standardized() if self.fixed is None else self.fixed
        return self._conv_forward(features, weight, self.bias)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with group normalisation; the time scales and shifts the first one's output."""

    def __init__(self, channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(time_channels, 2 * out_channels)
        self.conv1 = StandardizedConv2d(channels, out_channels, 3, padding=1)
        self.norm1 = GroupNorm(8, out_channels)
        self.conv2 = StandardizedConv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = GroupNorm(8, out_channels)
        self.shortcut = PointwiseConv2d(channels, out_channels) if channels != out_channels else nn.Identity()

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Transform features (B, C, H, W) at the embedded time (B, time_channels)."""
        scale, shift = self.modulation(F.silu(time))[..., None, None].chunk(2, dim=1)
        hidden = self.norm1(self.conv1(features))
        in_place = works_in_place() and hidden.dtype == shift.dtype
        hidden = silu(torch.addcmul(shift, hidden, scale + 1, out=hidden if in_place else None))
        hidden = silu(self.norm2(self.conv2(hidden)))
        return add(hidden, self.shortcut(features))


class LinearAttention(nn.Module):
    """Attention at a cost linear in the pixels: keys are normalised over pixels, queries over channels.

    As the keys' weights already sum to one, values are averaged, not summed: the result does not depend on the
    image's size.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_CHANNELS
        self.norm = ChannelNorm(channels, bias=False)
        self.to_query, self.to_key, self.to_value = (PointwiseConv2d(channels, inner, bias=False) for _ in range(3))
        self.to_out = PointwiseConv2d(inner, channels)
        self.norm_out = ChannelNorm(channels, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Attend within features (B, C, H, W) and add the result to them."""
        normal = self.norm(features)
        key = as_tokens(self.to_key(normal)).softmax(dim=1)
        # values are linear in the features: what is averaged first needs no map of values
        average = token_products(key, as_tokens(normal)).unflatten(1, (_HEADS, -1))
        del key  # as large as the queries
        to_value = self.to_value.weight.flatten(1).unflatten(0, (_HEADS, -1))
        context = torch.einsum("bhdc,hec->bhde", average, to_value.to(average.dtype)) * _HEAD_CHANNELS**-0.5
        query = as_tokens(self.to_query(normal)).unflatten(2, (_HEADS, -1)).softmax(dim=-1).flatten(2)
        attended = mix_channels(query, context, self.to_out)
        return add(self.norm_out(as_map(attended, *features.shape[-2:])), features)


class FullAttention(nn.Module):
    """Attention of every pixel to every pixel, for the smallest map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_CHANNELS
        self.norm = ChannelNorm(channels, bias=False)
        self.to_query, self.to_key, self.to_value = (PointwiseConv2d(channels, inner, bias=False) for _ in range(3))
        self.to_out = PointwiseConv2d(inner, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Attend within features (B, C, H, W) and add the result to them."""
        normal = self.norm(features)
        maps = (to(normal) for to in (self.to_query, self.to_key, self.to_value))
        query, key, value = (split_heads(as_tokens(part), _HEADS) for part in maps)
        attended = F.scaled_dot_product_attention(query, key, value)
        return add(self.to_out(as_map(merge_heads(attended), *features.shape[-2:])), features)


class EncoderLevel(nn.Module):
    """Two blocks and attention, then half the size (the last level keeps its size)."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, last: bool) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, time_channels)
        self.block2 = ResidualBlock(channels, channels, time_channels)
        self.attention = LinearAttention(channels)
        self.down = (
            nn.Conv2d(channels, out_channels, 3, padding=1)
            if last
            else nn.Conv2d(channels, out_channels, 4, stride=2, padding=1)
        )

    def forward(self, features: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the next level's features and this level's two skip connections."""
        inner = self.block1(features, time)
        outer = self.attention(self.block2(inner, time))
        return self.down(outer), inner, outer


class DecoderLevel(nn.Module):
    """Two blocks that take up a skip connection each, attention, then twice the size (the last keeps its size)."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, last: bool) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels + out_channels, channels, time_channels)
        self.block2 = ResidualBlock(channels + out_channels, channels, time_channels)
        self.attention = LinearAttention(channels)
        self.scale = 1.0 if last else 2.0
        self.up = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor, outer: Tensor, inner: Tensor, time: Tensor) -> Tensor:
        """Return the features of the level above; `outer` and `inner` are the encoder's skip connections."""
        features = self.block1(torch.cat((features, outer), dim=1), time)
        features = self.attention(self.block2(torch.cat((features, inner), dim=1), time))
        if self.scale != 1:
            features = F.interpolate(features, scale_factor=self.scale, mode="nearest")
        return self.up(features)
