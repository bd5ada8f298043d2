"""U2Fusion: a dense block over both sources, then a decoder."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.dense import DenseBlock, SameConv2d

_GROWTH, _DENSE_LAYERS = 44, 6
_DECODER = (128, 64, 32)
_SLOPE = 0.2


class U2FusionNetwork(nn.Module):
    """Ten 3×3 convolutions: six of 44 channels, each seeing all before it, then 128, 64, 32 and 1; 659,217 parameters.

    Leaky ReLU of slope 0.2 after all but the last, tanh after the last; borders are mirrored.
    """

    def __init__(self) -> None:
        super().__init__()
        # PyTorch's own initialisation is small enough that the tanh of ten layers does not saturate at the first steps
        self.dense = DenseBlock(2, _GROWTH, _DENSE_LAYERS, mirrored=True, slope=_SLOPE)
        widths = (_GROWTH * _DENSE_LAYERS, *_DECODER)
        self.decoder = nn.ModuleList(SameConv2d(*pair, mirrored=True) for pair in pairwise(widths))
        self.last = SameConv2d(widths[-1], 1, mirrored=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], at least 2 × 2 pixels, to one in [0, 1]."""
        features = self.dense(torch.cat((a, b), dim=1))
        for layer in self.decoder:
            features = F.leaky_relu(layer(features), _SLOPE, inplace=True)
        return (self.last(features).tanh() + 1) / 2
