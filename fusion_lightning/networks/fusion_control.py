"""Text-DiFuse's fusion control: how to weigh two encoders' maps, channel by channel and pixel by pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusion_lightning.networks.denoising_unet import group_norm


class FusionControl(nn.Module):
    """A `MapControl` for every level of an encoder: maps keep their place in space, and images may have any size.

    Args:
        widths: Channels of the levels.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(MapControl(channels) for channels in widths)

    def forward(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The weights of both sources' maps, level by level."""
        return [control(*maps) for control, *maps in zip(self.levels, a, b, strict=True)]


class MapControl(nn.Module):
    """Weights for two maps of one shape: a trunk that sees both, and a branch for each. Both are one half at first.

    Args:
        channels: Channels of either map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1), *_block(channels), ConvolutionalAttention(channels)
        )
        self.branches = nn.ModuleList(
            nn.Sequential(*_block(channels), ConvolutionalAttention(channels), *_block(channels)) for _ in "ab"
        )
        for branch in self.branches:
            for parameter in list(branch.parameters())[-2:]:  # of the last convolution
                nn.init.zeros_(parameter)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """w_a and w_b, each (B, C, H, W) in (0, 1), not tied to each other, for maps (B, C, H, W)."""
        shared = self.trunk(torch.cat((a, b), dim=1))
        w_a, w_b = (branch(shared).sigmoid() for branch in self.branches)
        return w_a, w_b


class ConvolutionalAttention(nn.Module):
    """CBAM (Woo et al., 2018): attention over channels, then over space, both from means and maxima.

    Args:
        channels: Channels of the map.
        reduction: How many times narrower the perceptron is.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.channels = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.space = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features (B, C, H, W) by numbers in (0, 1)."""
        scores = self.channels(features.mean(dim=(2, 3))) + self.channels(features.amax(dim=(2, 3)))
        features = features * scores.sigmoid()[..., None, None]
        pooled = torch.cat((features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)), dim=1)
        return features * self.space(pooled).sigmoid()


def _block(channels: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
