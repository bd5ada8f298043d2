"""SeAFusion: gradient residual dense blocks per source, then a decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.dense import SameConv2d, grow

_SLOPE = 0.2
_SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


class SeAFusionNetwork(nn.Module):
    """An encoder per source, 16, 32 and 48 maps, and a decoder over both, 96, 64, 32, 16 and 1; 166,657 parameters.

    Leaky ReLU of slope 0.2, tanh last; borders are zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _encoder(), _encoder()
        self.decoder = nn.ModuleList((SameConv2d(96, 64), SameConv2d(64, 32), SameConv2d(32, 16)))
        self.last = SameConv2d(16, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], infrared and visible, to one in [0, 1]."""
        features = torch.cat((self.b(b), self.a(a)), dim=1)
        for layer in self.decoder:
            features = F.leaky_relu(layer(features), _SLOPE, inplace=True)
        return (self.last(features).tanh() + 1) / 2


class GradientResidualDenseBlock(nn.Module):
    """A dense block of two layers, and beside it the size of its input's gradient.

    Args:
        inputs: Maps that it reads.
        outputs: Maps that it gives.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList((SameConv2d(inputs, inputs), SameConv2d(2 * inputs, inputs)))
        self.project = SameConv2d(3 * inputs, outputs, 1)
        # learned, from Sobel's kernels on
        self.across, self.down = _sobel(inputs, torch.tensor(_SOBEL)), _sobel(inputs, torch.tensor(_SOBEL).T)
        self.project_gradient = SameConv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, H, W)."""
        dense = self.project(grow(features, list(self.dense), _SLOPE))
        gradient = self.across(features).abs() + self.down(features).abs()
        return F.leaky_relu(dense + self.project_gradient(gradient), 0.1, inplace=True)


def _encoder() -> nn.Sequential:
    blocks = GradientResidualDenseBlock(16, 32), GradientResidualDenseBlock(32, 48)
    return nn.Sequential(SameConv2d(1, 16), nn.LeakyReLU(_SLOPE), *blocks)


def _sobel(channels: int, kernel: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    return layer


def _published_names() -> dict[str, str]:
    names = {f"decode{4 - layer}.conv": f"decoder.{layer}" for layer in range(3)} | {"decode1.conv": "last"}
    for source, theirs in (("a", "inf"), ("b", "vis")):
        names[f"{theirs}_conv.conv"] = f"{source}.0"
        for block, ours in (("rgbd1", f"{source}.2"), ("rgbd2", f"{source}.3")):
            names |= {
                f"{theirs}_{block}.dense.conv1.conv": f"{ours}.dense.0",
                f"{theirs}_{block}.dense.conv2.conv": f"{ours}.dense.1",
                f"{theirs}_{block}.convdown.conv": f"{ours}.project",
                f"{theirs}_{block}.sobelconv.convx": f"{ours}.across",
                f"{theirs}_{block}.sobelconv.convy": f"{ours}.down",
                f"{theirs}_{block}.convup.conv": f"{ours}.project_gradient",
            }
    return names


PUBLISHED_NAMES = _published_names()
"""Layers of the published file, and what they are called here."""

UNUSED = tuple(f"decode{layer}.bn" for layer in (1, 2, 3, 4))
"""Norms that the published file holds, and the published network never applies: 226 parameters."""
