"""MURF's fusion network: two branches under one gate, and a decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.dense import SameConv2d

_SLOPE = 0.2
_NEIGHBOURS = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class MURFNetwork(nn.Module):
    """A branch of 8, 16 and 32 maps per source, a gate over the maps of both, and 32, 16 and 1; 26,249 parameters.

    Leaky ReLU of slope 0.2; tanh last; borders are mirrored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = _branch(), _branch()
        self.of_mean, self.of_peak = _squeeze(), _squeeze()
        self.decoder = nn.ModuleList((SameConv2d(32, 32, mirrored=True), SameConv2d(32, 16, mirrored=True)))
        self.last = SameConv2d(16, 1, mirrored=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1] to one in [0, 1]."""
        maps = self.a(a), self.b(b)
        gate = self.gate(*maps)
        features = gate * (maps[0] + maps[1])
        for layer in self.decoder:
            features = F.leaky_relu(layer(features), _SLOPE)
        return self.last(features).tanh() / 2 + 0.5

    def gate(self, a: Tensor, b: Tensor) -> Tensor:
        """How much each map counts, in both branches alike: (B, 32, H, W) twice to (B, 32, 1, 1) in [0, 1].

        From the mean and the largest |∇²| of a map, summed over the branches.
        """
        texture = [_laplacian(maps).abs() for maps in (a, b)]
        mean = sum((one.mean(dim=(-2, -1)) for one in texture), torch.zeros(()))
        peak = sum((one.amax(dim=(-2, -1)) for one in texture), torch.zeros(()))
        return (self.of_mean(mean) + self.of_peak(peak)).sigmoid()[..., None, None]


def _branch() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in ((1, 8, 1), (8, 16, 3), (16, 32, 3)):
        layers += [SameConv2d(inputs, outputs, kernel, mirrored=True), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers)


def _squeeze() -> nn.Sequential:
    return nn.Sequential(nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 32))


def _laplacian(maps: Tensor) -> Tensor:
    """Of every map (B, 32, H, W), borders repeated."""
    kernel = maps.new_tensor(_NEIGHBOURS).expand(maps.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), kernel, groups=maps.shape[1])
