"""U2Fusion: a dense block over both sources, then a decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.networks.layers import extend_border

_GROWTH, _DENSE_LAYERS = 44, 6
_DECODER = (128, 64, 32)
_SLOPE = 0.2


class U2FusionNetwork(nn.Module):
    """Ten 3×3 convolutions: six of 44 channels, each seeing all before it, then 128, 64, 32 and 1; 659,217 parameters.

    Leaky ReLU of slope 0.2 after all but the last, tanh after the last; borders are mirrored.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = [2, *(_GROWTH * layer for layer in range(1, _DENSE_LAYERS))]
        self.dense = nn.ModuleList(_convolution(channels, _GROWTH) for channels in inputs)
        widths = (_GROWTH * _DENSE_LAYERS, *_DECODER)
        self.decoder = nn.ModuleList(map(_convolution, widths[:-1], widths[1:]))
        self.last = _convolution(widths[-1], 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], at least 2 × 2 pixels, to one in [0, 1]."""
        first, *later = self.dense
        features = _activated(first, torch.cat((a, b), dim=1))
        for layer in later:
            features = torch.cat((features, _activated(layer, features)), dim=1)
        for layer in self.decoder:
            features = _activated(layer, features)
        return (self.last(extend_border(features, 1, "reflect")).tanh() + 1) / 2


def _activated(layer: nn.Module, features: Tensor) -> Tensor:
    return F.leaky_relu(layer(extend_border(features, 1, "reflect")), _SLOPE, inplace=True)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    # PyTorch's own initialisation is small enough that the tanh of ten layers does not saturate at the first steps
    return nn.Conv2d(inputs, outputs, 3)
