"""The degrade-fusion network of CLED-Fusion's second stage."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.imaging.color import as_rgb, rgb_to_cbcr, rgb_to_luma, ycbcr_to_rgb
from fusion_lightning.imaging.filters import guided_filter_fusion, thermal_fusion
from fusion_lightning.networks.attention import SSAB, TSAB, CrossAttention
from fusion_lightning.networks.layers import OpponentColors, PointwiseConv2d, pad_to_multiple

FusionSize = Literal["tiny", "small", "base", "large"]
Base = Literal["maximum", "guided", "thermal", "none"]
"""What the network's prediction is added to; see `base_image`."""


class FusionShape(NamedTuple):
    """Width of the first level (it doubles per level) and the number of block pairs in each of the four."""

    width: int
    depths: tuple[int, int, int, int]


SHAPES: dict[str, FusionShape] = {
    "tiny": FusionShape(16, (1, 1, 1, 1)),
    "small": FusionShape(24, (1, 1, 1, 1)),
    "base": FusionShape(32, (1, 1, 2, 2)),
    "large": FusionShape(48, (2, 2, 2, 4)),
}

_HEADS = (1, 2, 4, 8)


class DegradeFusion(nn.Module):
    """Network that removes a chosen share of two sources' degradation and fuses them.

    Every modality has an encoder of four levels (TSAB, then SSAB, channels doubling); cross-attention joins the two
    at every level; the decoder climbs from the deepest join, taking up the shallower ones, and ends in a refinement
    block.

    The network predicts what has to be added to a base image, which is fused by a rule from the two restored sources.
    The last convolution starts at zero, so that an untrained network returns that base.

    Args:
        size: `tiny`, `small`, `base` or `large`; see `SHAPES`.
        base: The rule, `maximum`, `guided` or `thermal`; see `base_image`. With `none` the network predicts the whole
            image.

    Raises:
        UserError: If `size` or `base` is not among those named.
    """

    def __init__(self, size: FusionSize = "base", base: Base = "maximum") -> None:
        super().__init__()
        check_choice("size", size, SHAPES)
        check_choice("base", base, Base)
        width, depths = SHAPES[size]
        widths = [width << level for level in range(len(depths))]
        self.base: Base = base
        self.encoder_a = Encoder(widths, depths)
        self.encoder_b = Encoder(widths, depths)
        deepest = len(widths) - 1
        self.joins = nn.ModuleList(
            CrossAttention(channels, heads, spatial=level == deepest)
            for level, (channels, heads) in enumerate(zip(widths, _HEADS, strict=True))
        )
        self.decoder = nn.ModuleList(
            DecoderLevel(below, channels, heads)
            for (channels, below), heads in zip(pairwise(widths), _HEADS[:-1], strict=True)
        )
        self.refinement = TSAB(width, _HEADS[0])
        self.head = nn.Conv2d(width, 3, 3, padding=1)
        self.colors = OpponentColors()
        if base != "none":
            nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        source_a: Tensor,
        residual_a: Tensor,
        source_b: Tensor,
        residual_b: Tensor,
        strength_a: float = 1.0,
        strength_b: float = 1.0,
        balance: float = 0.5,
    ) -> Tensor:
        """Fuse two degraded sources.

        Args:
            source_a: I_in of modality a, (B, 1 or 3, H, W) in [0, 1]. Any H and W.
            residual_a: Its residual I_res^θ on the same scale (half of that of images in [−1, 1]), in [−1, 1].
            source_b: I_in of modality b.
            residual_b: Its residual.
            strength_a: Removal strength r of modality a: 0 keeps the degradation, 1 removes it.
            strength_b: Removal strength of modality b.
            balance: Cross-modal balance in [0, 1]; 0.5 changes nothing. Towards 0 the luma moves in a straight line to
                that of the restored a, towards 1 to that of the restored b; the fused colours stay. Along a straight
                line the correlation with its end can only grow.

        Returns:
            The fused RGB image I_f, (B, 3, H, W) in [0, 1].
        """
        restored_a = remove_degradation(source_a, residual_a, strength_a)
        restored_b = remove_degradation(source_b, residual_b, strength_b)
        prediction = self._predict(as_rgb(restored_a), as_rgb(restored_b))
        fused = prediction if self.base == "none" else prediction + base_image(restored_a, restored_b, self.base)
        if balance != 0.5:
            fused = shift_balance(fused, restored_a, restored_b, balance)
        return fused.clamp(0, 1)

    def _predict(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = a.shape[-2:]
        multiple = 2 ** len(self.decoder)
        levels_a = self.encoder_a(pad_to_multiple(a, multiple))
        levels_b = self.encoder_b(pad_to_multiple(b, multiple))
        *shallow, features = (join(x, y) for join, x, y in zip(self.joins, levels_a, levels_b, strict=True))
        for level, fused in zip(reversed(self.decoder), reversed(shallow), strict=True):
            features = level(features, fused)
        return self.colors.to_rgb(self.head(self.refinement(features))[..., :height, :width])


class Encoder(nn.Module):
    """One modality's four levels of TSAB and SSAB; an RGB image (B, 3, H, W) to the features of every level."""

    def __init__(self, widths: list[int], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.entries = nn.ModuleList(
            [
                nn.Conv2d(3, widths[0], 3, padding=1),
                *(nn.Conv2d(above, below, 2, stride=2) for above, below in pairwise(widths)),
            ]
        )
        self.levels = nn.ModuleList(
            nn.Sequential(*(block(channels, heads) for _ in range(depth) for block in (TSAB, SSAB)))
            for channels, depth, heads in zip(widths, depths, _HEADS, strict=True)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the features of every level, the largest map first."""
        outputs = []
        for entry, level in zip(self.entries, self.levels, strict=True):
            features = level(entry(features))
            outputs.append(features)
        return outputs


class DecoderLevel(nn.Module):
    """Decoder level: upsample, concatenate the level's fused features, TSAB."""

    def __init__(self, below: int, channels: int, heads: int) -> None:
        super().__init__()
        self.reduce = PointwiseConv2d(below, channels)
        self.merge = PointwiseConv2d(2 * channels, channels)
        self.block = TSAB(channels, heads)

    def forward(self, deeper: Tensor, fused: Tensor) -> Tensor:
        """Join features (B, below, H/2, W/2) and (B, channels, H, W) to (B, channels, H, W)."""
        deeper = F.interpolate(self.reduce(deeper), scale_factor=2.0, mode="nearest")
        return self.block(self.merge(torch.cat((deeper, fused), dim=1)))


def remove_degradation(source: Tensor, residual: Tensor, strength: float = 1.0) -> Tensor:
    """The fusion's first operation, I_in − r·I_res, clamped to an image in [0, 1]."""
    return (source - strength * residual).clamp(0, 1)


_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "maximum": torch.maximum,
    "guided": guided_filter_fusion,
    "thermal": thermal_fusion,
}


def base_image(a: Tensor, b: Tensor, rule: Base = "maximum") -> Tensor:
    """Two images fused by a rule, in the colours of the one that has colour; RGB (B, 3, H, W).

    Args:
        a: Image (B, 1 or 3, H, W) in [0, 1].
        b: Image of the same size.
        rule: ``maximum`` takes the larger luma, which shows all that is bright but loses dark detail; ``guided`` weighs
            base and detail by their contrast (`guided_filter_fusion`); ``thermal`` does so and keeps what is hot in a
            bright (`thermal_fusion`).
    """
    fuse = _RULES[rule]
    # A grey image's chroma is 0.5 everywhere, so the sum of deviations is the colour image's own.
    return ycbcr_to_rgb(fuse(rgb_to_luma(a), rgb_to_luma(b)), rgb_to_cbcr(a) + rgb_to_cbcr(b) - 0.5)


def shift_balance(fused: Tensor, a: Tensor, b: Tensor, balance: float) -> Tensor:
    """Move the luma of the fused image towards that of a (`balance` < 0.5) or b (> 0.5), keeping its colours."""
    share = abs(2 * balance - 1)
    target = rgb_to_luma(a if balance < 0.5 else b)
    return fused + share * (target - rgb_to_luma(fused))
