"""A small Restormer: channel attention at four resolutions."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.networks.attention import TSAB
from fusion_lightning.networks.layers import pad_to_multiple

RestormerSize = Literal["tiny", "small", "base", "large"]


class RestormerShape(NamedTuple):
    """Width of the first level (it doubles per level), blocks in each of the four levels, and in the refinement."""

    width: int
    depths: tuple[int, int, int, int]
    refinement: int


SHAPES: dict[str, RestormerShape] = {
    "tiny": RestormerShape(16, (1, 1, 1, 1), 1),
    "small": RestormerShape(24, (1, 2, 2, 2), 1),
    "base": RestormerShape(32, (2, 3, 3, 4), 2),
    "large": RestormerShape(48, (4, 6, 6, 8), 4),
}
"""``large`` has the published widths and depths."""

_HEADS = (1, 2, 4, 8)


class RestormerNetwork(nn.Module):
    """Network that predicts the correction to add to a degraded image.

    An encoder and a decoder of transposed-attention blocks; resolutions change by shuffling pixels into channels and
    back. The last convolution starts at zero: an untrained network changes nothing.

    Args:
        size: ``tiny``, ``small``, ``base`` or ``large``; see `SHAPES`.

    Raises:
        UserError: If `size` is none of the four.
    """

    def __init__(self, size: RestormerSize = "base") -> None:
        super().__init__()
        check_choice("size", size, SHAPES)
        width, depths, refinement = SHAPES[size]
        widths = [width << level for level in range(4)]
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(map(_blocks, widths, _HEADS, depths))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for channels in widths[:-1]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for channels in widths[1:]
        )
        # the first level keeps both halves of its join
        joined = (2 * width, *widths[1:3])
        self.join = nn.ModuleList(
            nn.Identity() if level == 0 else nn.Conv2d(2 * widths[level], widths[level], 1, bias=False)
            for level in range(3)
        )
        self.decoder = nn.ModuleList(map(_blocks, joined, _HEADS[:3], depths[:3]))
        self.refinement = _blocks(2 * width, 1, refinement)
        self.head = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, image: Tensor) -> Tensor:
        """The correction, in about [−1, 1], to images (B, 3, H, W) in [0, 1] of any size."""
        features = self.stem(pad_to_multiple(image, 8))
        skipped = []
        for level, blocks in enumerate(self.encoder):
            features = blocks(features)
            if level < len(self.down):
                skipped.append(features)
                features = self.down[level](features)
        for level in reversed(range(len(self.decoder))):
            features = torch.cat((self.up[level](features), skipped[level]), dim=1)
            features = self.decoder[level](self.join[level](features))
        return self.head(self.refinement(features))[..., : image.shape[-2], : image.shape[-1]]


def _blocks(channels: int, heads: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(TSAB(channels, heads) for _ in range(depth)))
