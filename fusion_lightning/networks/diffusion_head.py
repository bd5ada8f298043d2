"""Dif-Fusion's head: from the maps of a diffusion's decoder, at several noise levels, to the fused image."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DiffusionHead(nn.Module):
    """Paints an image from maps: deepest scale first, each joined to what rises from below.

    A scale's maps of all noise levels are mixed to one; it is added to the risen map, and the sum rises on. No
    normalisation. The last convolution starts at zero: an untrained head paints mid-grey.

    Args:
        widths: Channels of the scales, finest first; each is twice as large as the next.
        levels: How many noise levels there are.
        out_channels: Channels of the image.
    """

    def __init__(self, widths: Sequence[int], levels: int, out_channels: int = 3) -> None:
        super().__init__()
        deepest_first = list(reversed(widths))
        self.mixers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(levels * channels, channels, 1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(),
            )
            for channels in deepest_first
        )
        self.rises = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, above, 3, padding=1),
                nn.ReLU(),
                SqueezeAndExcite(above),
                nn.Upsample(scale_factor=2, mode="bilinear"),
            )
            for channels, above in pairwise(deepest_first)
        )
        last = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.paint = nn.Sequential(nn.Conv2d(widths[0], widths[0], 3, padding=1), nn.LeakyReLU(0.2), last)

    def forward(self, maps: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        """Paint an image.

        Args:
            maps: For every noise level a map (B, C, h, w) per scale, deepest first.
            size: H and W, at most those of the finest maps.

        Returns:
            The image (B, C', H, W) in (0, 1), float32.
        """
        scales = [mix(torch.cat(scale, dim=1)) for mix, scale in zip(self.mixers, zip(*maps, strict=True), strict=True)]
        features = scales[0]
        for rise, scale in zip(self.rises, scales[1:], strict=True):
            features = scale + rise(features)
        return (self.paint(features)[..., : size[0], : size[1]].float().tanh() + 1) / 2


class SqueezeAndExcite(nn.Module):
    """Attention over channels plus attention over space, both of the same features (scSE; Roy et al., 2018).

    Args:
        channels: Channels of the features.
        reduction: How many times narrower the perceptron is.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)
        self.space = nn.Conv2d(channels, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features (B, C, H, W) twice by numbers in (0, 1), and add."""
        scores = self.excite(F.relu(self.squeeze(features.mean(dim=(2, 3)))))
        return features * scores.sigmoid()[..., None, None] + features * self.space(features).sigmoid()
