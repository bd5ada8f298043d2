"""IFCNN: features of every source, fused element by element."""

from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.networks.layers import extend_border

FusionRule = Literal["max", "sum", "mean"]

_CHANNELS = 64
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, for which the first layer's published weights were trained."""


class IFCNNNetwork(nn.Module):
    """Two layers of features, an elementwise rule over the sources, two layers of reconstruction; 83,587 parameters.

    Layers are called as in the published weight files. Borders are repeated before every convolution.

    Args:
        fusion: How the sources' features become one: ``max`` (infrared, multi-focus, medical), ``sum`` or ``mean``
            (multi-exposure).

    Raises:
        UserError: If there is no such rule.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, fusion: FusionRule = "max") -> None:
        super().__init__()
        check_choice("fusion", fusion, FusionRule)
        self.fusion = fusion
        self.conv1 = nn.Conv2d(3, _CHANNELS, 7, bias=False)
        self.conv2 = _Convolution()
        self.conv3 = _Convolution()
        self.conv4 = nn.Conv2d(_CHANNELS, 3, 1)
        # constants, not weights: they stay out of checkpoints
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        """Fuse any number of sources (B, 3, H, W) in [0, 1]; the result may leave [0, 1] a little."""
        stacked = (torch.cat(list(sources)) - self.mean) / self.spread
        features = self.conv2(self.conv1(extend_border(stacked, 3, "replicate")))
        fused = self.conv4(self.conv3(self._rule(features.chunk(len(sources)))))
        return fused * self.spread + self.mean

    def _rule(self, features: Sequence[Tensor]) -> Tensor:
        """Features of all sources, (B, C, H, W) each, to one; pairwise, which keeps the layout and outruns `amax`."""
        fused = reduce(torch.maximum if self.fusion == "max" else torch.add, features)
        return fused / len(features) if self.fusion == "mean" else fused


class _Convolution(nn.Module):
    """3×3 convolution, batch normalisation, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_CHANNELS, _CHANNELS, 3, bias=False)
        self.bn = nn.BatchNorm2d(_CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(extend_border(features, 1, "replicate"))), inplace=True)
