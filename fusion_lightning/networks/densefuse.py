"""DenseFuse: an autoencoder with a dense block, whose features are fused."""

from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.networks.dense import DenseBlock, SameConv2d

AdditionRule = Literal["mean", "sum"]
LEVELS = 255.0


class DenseFuseNetwork(nn.Module):
    """Four dense 3×3 convolutions of 16 maps; then 64, 32, 16 and 1; 74,193 parameters.

    ReLU after all but the last; borders are mirrored.

    Args:
        fusion: What becomes of both sources' features: their ``sum`` or their ``mean``.

    Raises:
        UserError: If there is no such rule.
    """

    def __init__(self, fusion: AdditionRule = "mean") -> None:
        super().__init__()
        check_choice("fusion", fusion, AdditionRule)
        self.fusion = fusion
        self.encoder = DenseBlock(1, 16, 4, mirrored=True, slope=0)
        widths = (64, 64, 32, 16)
        self.decoder = nn.ModuleList(SameConv2d(*pair, mirrored=True) for pair in pairwise(widths))
        self.last = SameConv2d(16, 1, mirrored=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]; the result may leave [0, 1]: by ``sum`` it is twice as bright."""
        features = self.encode(a) + self.encode(b)
        return self.decode(features / 2 if self.fusion == "mean" else features)

    def encode(self, image: Tensor) -> Tensor:
        """Features (B, 64, H, W) of grey images (B, 1, H, W) in [0, 1]."""
        return self.encoder(LEVELS * image)

    def decode(self, features: Tensor) -> Tensor:
        """The inverse."""
        for layer in self.decoder:
            features = F.relu(layer(features), inplace=True)
        return self.last(features) / LEVELS


PUBLISHED_NAMES = {"encoder.conv1_1": "encoder.0", "decoder.conv2_4": "last"} | {
    published: own
    for layer in (1, 2, 3)
    for published, own in (
        (f"encoder.dense_block_conv{layer}", f"encoder.{layer}"),
        (f"decoder.conv2_{layer}", f"decoder.{layer - 1}"),
    )
}
"""Layers of the published file, and what they are called here."""
