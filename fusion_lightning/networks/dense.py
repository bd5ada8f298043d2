"""What networks of convolutions at full size share: same-size convolutions, dense blocks, interleaved features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import extend_border


class SameConv2d(nn.Conv2d):
    """A convolution that keeps the size of its maps.

    Args:
        inputs: Maps that it reads.
        outputs: Maps that it gives.
        kernel: Its odd side.
        mirrored: Mirror the maps beyond their border; zeros lie there otherwise.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, mirrored: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, padding=0 if mirrored else kernel // 2)
        self.mirror = kernel // 2 if mirrored else 0

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W)."""
        return super().forward(extend_border(features, self.mirror, "reflect") if self.mirror else features)


class DenseBlock(nn.ModuleList):
    """Convolutions of which each sees the maps of all before it, oldest first.

    Args:
        inputs: Maps that the first one reads.
        growth: Maps that each gives.
        layers: How many there are.
        kernel: Side of the first; the others are 3×3.
        mirrored: As in `SameConv2d`.
        slope: Slope of the leaky ReLU after each.
    """

    def __init__(
        self, inputs: int, growth: int, layers: int, kernel: int = 3, mirrored: bool = False, slope: float = 0.2
    ) -> None:
        later = (SameConv2d(growth * layer, growth, mirrored=mirrored) for layer in range(1, layers))
        super().__init__((SameConv2d(inputs, growth, kernel, mirrored), *later))
        self.slope = slope

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, growth · layers, H, W)."""
        first, *later = self
        return grow(F.leaky_relu(first(features), self.slope, inplace=True), later, self.slope)


def grow(features: Tensor, layers: list[nn.Module], slope: float) -> Tensor:
    """Append to features (B, C, H, W) what each layer, followed by a leaky ReLU, makes of all that is there."""
    for layer in layers:
        features = torch.cat((features, F.leaky_relu(layer(features), slope, inplace=True)), dim=1)
    return features


def interleave(a: Tensor, b: Tensor, groups: int) -> Tensor:
    """Join features (B, C, H, W) of two sources, group by group: a's first, b's first, a's second …; (B, 2 C, H, W)."""
    return torch.stack((a.unflatten(1, (groups, -1)), b.unflatten(1, (groups, -1))), dim=2).flatten(1, 3)
