"""The U-Net of guided diffusion, whose ImageNet weights are public; its modules are named as they are there."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import pad_to_multiple

_BLOCKS = 2
"""Residual blocks of a level on the way down; one more on the way up."""
_GROUPS, _HEAD_CHANNELS = 32, 64


class GuidedUNet(nn.Module):
    """U-Net that predicts the noise and its variance from an RGB image on [−1, 1]; of the two, the noise is given.

    Args:
        width: Channels of the first level, a multiple of 32.
        multipliers: Channels of every level, in widths.
        attention: For every level, whether its blocks are followed by attention of all pixels to all pixels.
    """

    def __init__(self, width: int, multipliers: tuple[int, ...], attention: tuple[bool, ...]) -> None:
        super().__init__()
        self.width, self.levels = width, len(multipliers)
        time = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        channels, skips = width, [width]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, width, 3, padding=1)])])
        for level, (multiplier, attends) in enumerate(zip(multipliers, attention, strict=True)):
            for _ in range(_BLOCKS):
                self.input_blocks.append(_block(channels, multiplier * width, time, attends))
                channels = multiplier * width
                skips.append(channels)
            if level < self.levels - 1:
                self.input_blocks.append(nn.ModuleList([ResidualBlock(channels, channels, time, "down")]))
                skips.append(channels)
        ends = (ResidualBlock(channels, channels, time) for _ in range(2))
        self.middle_block = nn.ModuleList([next(ends), Attention(channels), next(ends)])
        self.output_blocks = nn.ModuleList()
        for level, (multiplier, attends) in reversed(list(enumerate(zip(multipliers, attention, strict=True)))):
            for part in range(_BLOCKS + 1):
                block = _block(channels + skips.pop(), multiplier * width, time, attends)
                channels = multiplier * width
                if level and part == _BLOCKS:
                    block.append(ResidualBlock(channels, channels, time, "up"))
                self.output_blocks.append(block)
        self.out = nn.Sequential(nn.GroupNorm(_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    @classmethod
    def like(cls, state: Mapping[str, Tensor]) -> "GuidedUNet":
        """A network of the sizes of a state dict that has ``input_blocks.0.0.weight``."""
        width = state["input_blocks.0.0.weight"].shape[0]
        firsts: list[str] = []
        while (name := f"input_blocks.{(_BLOCKS + 1) * len(firsts) + 1}") + ".0.out_layers.3.weight" in state:
            firsts.append(name)
        multipliers = tuple(state[f"{name}.0.out_layers.3.weight"].shape[0] // width for name in firsts)
        return cls(width, multipliers, tuple(f"{name}.1.qkv.weight" in state for name in firsts))

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        """The noise (B, 3, H, W) in images (B, 3, H, W) at integer times (B,), any H and W; float32."""
        height, width = state.shape[-2:]
        embedded = self.time_embed(self._waves(time))
        features, skips = pad_to_multiple(state, 2 ** (self.levels - 1)), []
        for block in self.input_blocks:
            features = _apply(block, features, embedded)
            skips.append(features)
        features = _apply(self.middle_block, features, embedded)
        for block in self.output_blocks:
            features = _apply(block, torch.cat((features, skips.pop()), dim=1), embedded)
        return self.out(features)[:, :3, :height, :width].float()

    def _waves(self, time: Tensor) -> Tensor:
        """Cosines, then sines, of the time at frequencies from 1 down to 1e-4: (B, width)."""
        half = self.width // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=time.device) / half)
        angles = time.float()[:, None] * frequencies
        return torch.cat((angles.cos(), angles.sin()), dim=1)


class ResidualBlock(nn.Module):
    """Normalise, SiLU, 3×3 convolution, twice; the time scales and shifts what is normalised second.

    Args:
        channels: Channels of the features.
        out_channels: Channels of the result.
        time_channels: Channels of the embedded time.
        resize: ``up`` repeats pixels, ``down`` averages them, 2 × 2, before the first convolution; or neither.
    """

    def __init__(self, channels: int, out_channels: int, time_channels: int, resize: str | None = None) -> None:
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, 2 * out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, out_channels),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Transform features (B, C, H, W) at the embedded time (B, T)."""
        norm, activate, convolve = self.in_layers
        hidden = convolve(self._resized(activate(norm(features))))
        scale, shift = self.emb_layers(time)[..., None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        hidden = norm(hidden) * (1 + scale) + shift
        for layer in rest:
            hidden = layer(hidden)
        return hidden + self.skip_connection(self._resized(features))

    def _resized(self, features: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(features, 2)
        return F.interpolate(features, scale_factor=2, mode="nearest") if self.resize == "up" else features


class Attention(nn.Module):
    """Attention of all pixels to all pixels in heads of 64 channels; narrower maps have one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // _HEAD_CHANNELS, 1)
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Attend within features (B, C, H, W)."""
        pixels = features.flatten(2)
        # channels hold the heads, and each of them its queries, keys and values
        parts = self.qkv(self.norm(pixels)).unflatten(1, (self.heads, 3, -1)).transpose(3, 4)
        attended = F.scaled_dot_product_attention(*parts.unbind(dim=2))
        return (pixels + self.proj_out(attended.transpose(2, 3).flatten(1, 2))).view_as(features)


def _block(channels: int, out_channels: int, time: int, attends: bool) -> nn.ModuleList:
    parts: list[nn.Module] = [ResidualBlock(channels, out_channels, time)]
    return nn.ModuleList([*parts, Attention(out_channels)] if attends else parts)


def _apply(block: nn.Module, features: Tensor, time: Tensor) -> Tensor:
    assert isinstance(block, nn.ModuleList)
    for part in block:
        features = part(features, time) if isinstance(part, ResidualBlock) else part(features)
    return features
