"""DRFusion's network: a U-Net with one encoder and two decoders, for the implicit noise and for the fusion weights."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import UserError
from fusion_lightning.networks.layers import GroupNorm, pad_to_multiple
from fusion_lightning.networks.residual_unet import TimeEmbedding

JointSize = Literal["tiny", "small", "base"]

BASE_WIDTHS: dict[str, int] = {"tiny": 16, "small": 32, "base": 64}
"""Channels of the first of four levels; they double per level. 2, 8 and 31 million parameters, 31.8 as published."""

_LEVELS = 4

_BRANCH = 0.1
"""How strong branches begin. With small residual branches and deep features, and open gates, training begins near a
shallow filter at full size; under random deep features sixty steps did not begin to remove noise."""
_OPEN = 2.0
"""Where the gates' scores begin: sigmoid(2) = 0.88."""


class TwoDecoderUNet(nn.Module):
    """U-Net that predicts noise and a weight map from a state.

    Four levels of two residual blocks with strided convolutions between them, two blocks in the middle; each decoder
    climbs by transposed convolutions and adds what its own gates let through of the skip connections. Both last
    convolutions start at zero: an untrained network predicts no noise and weights of one half; branches start small.
    Weights lie channels-last in memory, and features follow them.

    Args:
        size: `tiny`, `small` or `base`; see `BASE_WIDTHS`.
        in_channels: Channels of the state: in DRFusion two sources and their fusion.
        out_channels: Channels of the predicted noise.
        dropout: Share of the features that a residual block drops while training; None stands for the paper's 0.1 at
            ``base`` and none at the narrow sizes, which have no feature to spare.

    Raises:
        UserError: If `size` is none of the three.
    """

    def __init__(
        self, size: JointSize = "base", in_channels: int = 3, out_channels: int = 3, dropout: float | None = None
    ) -> None:
        super().__init__()
        if size not in BASE_WIDTHS:
            raise UserError(f"`size` must be one of {', '.join(BASE_WIDTHS)}, but got {size!r}")
        if dropout is None:
            dropout = 0.1 if size == "base" else 0.0
        width = BASE_WIDTHS[size]
        widths = [width << level for level in range(_LEVELS)]
        time_channels = 4 * width
        self.time = TimeEmbedding(width, time_channels)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(
            EncoderLevel(above, channels, time_channels, dropout) for above, channels in pairwise((width, *widths))
        )
        self.downs = nn.ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for channels in widths[:-1])
        self.middle = EncoderLevel(widths[-1], widths[-1], time_channels, dropout)
        self.noise = Decoder(widths, out_channels, time_channels, dropout)
        self.weight = Decoder(widths, 1, time_channels, dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, state: Tensor, time: Tensor, weights: bool = True) -> tuple[Tensor, Tensor | None]:
        """Predict noise and weights.

        Args:
            state: (B, C, H, W), any H and W.
            time: The step, (B,) or (1,) for all.
            weights: Whether the weights are wanted; their decoder does not run otherwise.

        Returns:
            The noise e (B, C', H, W), unbounded, and the weights (B, 1, H, W) in (0, 1) or None, both float32.
        """
        height, width = state.shape[-2:]
        time = self.time(time)
        features = self.stem(pad_to_multiple(state, 2 ** (_LEVELS - 1)))
        skips = []
        for level, down in zip(self.encoder, self.downs, strict=False):
            features = level(features, time)
            skips.append(features)
            features = down(features)
        features = self.middle(self.encoder[-1](features, time), time)
        noise = self.noise(features, skips, time)[..., :height, :width].float()
        if not weights:
            return noise, None
        return noise, self.weight(features, skips, time)[..., :height, :width].float().sigmoid()


class EncoderLevel(nn.Module):
    """Two residual blocks; the first brings the channels to their number."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, dropout: float) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, out_channels, time_channels, dropout)
        self.block2 = ResidualBlock(out_channels, out_channels, time_channels, dropout)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Transform features (B, C, H, W) at the embedded time."""
        return self.block2(self.block1(features, time), time)


class Decoder(nn.Module):
    """From the deepest features back to the size of the image: up, add the gated skip connection, a residual block.

    Args:
        widths: Channels of the levels, from the first.
        out_channels: Channels of the result.
        time_channels: Channels of the embedded time.
        dropout: As in `TwoDecoderUNet`.
    """

    def __init__(self, widths: list[int], out_channels: int, time_channels: int, dropout: float) -> None:
        super().__init__()
        rising = list(pairwise(reversed(widths)))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, channels, 4, stride=2, padding=1) for below, channels in rising
        )
        self.gates = nn.ModuleList(SkipGate(channels) for _, channels in rising)
        self.blocks = nn.ModuleList(ResidualBlock(channels, channels, time_channels, dropout) for _, channels in rising)
        for up in self.ups:
            _weaken(up)
        self.norm = group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, skips: list[Tensor], time: Tensor) -> Tensor:
        """Decode features (B, C, h, w) with the encoder's levels, finest first, to (B, C', H, W)."""
        for up, gate, block, skip in zip(self.ups, self.gates, self.blocks, reversed(skips), strict=True):
            features = block(up(features).add_(gate(skip)), time)
        return self.head(silu(self.norm(features)))


class ResidualBlock(nn.Module):
    """Normalise, SiLU, 3×3 convolution, twice; the time is added in between, the input at the end."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        _weaken(self.conv2)
        self.shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Transform features (B, C, H, W) at the embedded time (B or 1, time_channels)."""
        # a convolution's result is nobody else's, nor needed for its gradient: adding in place touches no fresh memory
        hidden = self.conv1(silu(self.norm1(features))).add_(self.time(F.silu(time))[..., None, None])
        return self.conv2(self.dropout(silu(self.norm2(hidden)))).add_(self.shortcut(features))


class SkipGate(nn.Module):
    """Lets a part of a skip connection through: attention over channels times attention over space.

    Channels: average and maximum over the image through one perceptron, summed. Space: a 1×1 convolution.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        last = nn.Linear(hidden, channels)
        self.channels = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), last)
        self.space = nn.Conv2d(channels, 1, 1)
        nn.init.constant_(last.bias, _OPEN / 2)  # it is added twice
        nn.init.constant_(self.space.bias, _OPEN)  # type: ignore[arg-type]

    def forward(self, skip: Tensor) -> Tensor:
        """Weigh features (B, C, H, W) by numbers in (0, 1)."""
        scores = self.channels(skip.mean(dim=(2, 3))) + self.channels(skip.amax(dim=(2, 3)))
        return skip * self.space(skip).sigmoid() * scores.sigmoid()[..., None, None]


def group_norm(channels: int) -> GroupNorm:
    """Group normalisation in 32 groups; narrow maps have fewer, of two channels, as a group of one has no contrast."""
    return GroupNorm(min(32, channels // 2), channels)


@torch.no_grad()
def _weaken(layer: nn.Module) -> None:
    """Scale what a layer begins with."""
    for parameter in layer.parameters():
        parameter.mul_(_BRANCH)


def silu(features: Tensor) -> Tensor:
    """SiLU of features that nobody else needs: in place where no gradient does, which spares touching fresh memory."""
    return F.silu(features, inplace=not torch.is_grad_enabled())
