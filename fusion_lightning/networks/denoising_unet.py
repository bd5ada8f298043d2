"""A U-Net that predicts noise: the backbone of the methods that fuse or restore by diffusion."""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.networks.layers import Dropout, GroupNorm, PointwiseConv2d, pad_to_multiple, silu
from fusion_lightning.networks.residual_unet import TimeEmbedding

DenoisingSize = Literal["tiny", "small", "base"]

BASE_WIDTHS: dict[str, int] = {"tiny": 16, "small": 32, "base": 64}
"""Channels of the first of four levels; they double per level."""

_LEVELS = 4

_BRANCH_INIT = 0.1
"""Initial scale of branches. With small residual branches and deep features, and open gates, training begins near a
shallow filter at full size; under random deep features sixty steps did not begin to remove noise."""
_GATE_INIT = 2.0
"""Initial score of the gates: sigmoid(2) = 0.88."""


class DenoisingUNet(nn.Module):
    """U-Net that predicts noise from a state.

    Four levels of two residual blocks with strided convolutions between them, two blocks in the middle; the decoder
    climbs by transposed convolutions and adds what its gates let through of the skip connections. The last convolution
    starts at zero: an untrained network predicts no noise; branches start small. Weights lie channels-last in memory,
    and features follow them.

    `forward` is `output` of the last of the maps that `decode` makes of `encode`'s: a method may step in between.

    Args:
        size: `tiny`, `small` or `base` (1.7, 6.7, 26.7 million parameters), or the channels of the first
            level, an even number.
        in_channels: Channels of the state, with whatever it is seen beside.
        out_channels: Channels of the predicted noise.
        dropout: Share of the features that a residual block drops while training; None stands for 0.1 from ``base``
            on and none at the narrow sizes, which have no feature to spare.
        decoder: The decoder's class; None is `Decoder`.

    Raises:
        UserError: If `size` is a name and none of the three.
    """

    def __init__(
        self,
        size: DenoisingSize | int = "base",
        in_channels: int = 1,
        out_channels: int = 1,
        dropout: float | None = None,
        decoder: "type[Decoder] | None" = None,
    ) -> None:
        super().__init__()
        width = size if isinstance(size, int) else base_width(size)
        if dropout is None:
            dropout = 0.1 if width >= BASE_WIDTHS["base"] else 0.0
        self.widths = [width << level for level in range(_LEVELS)]
        self.time_channels = 4 * width
        self.dropout = dropout
        self.time = TimeEmbedding(width, self.time_channels)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(
            EncoderLevel(above, channels, self.time_channels, dropout)
            for above, channels in pairwise((width, *self.widths))
        )
        self.downs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for channels in self.widths[:-1]
        )
        self.middle = EncoderLevel(self.widths[-1], self.widths[-1], self.time_channels, dropout)
        self.noise_decoder = (decoder or Decoder)(self.widths, out_channels, self.time_channels, dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, state: Tensor, time: Tensor) -> Tensor:
        """Predict noise.

        Args:
            state: (B, C, H, W), any H and W.
            time: The time, (B,) or (1,) for all.

        Returns:
            The noise (B, C', H, W), unbounded, float32.
        """
        return self.output(self.decode(self.encode(state, time), time)[-1], state)

    def encode(self, state: Tensor, time: Tensor) -> list[Tensor]:
        """The maps that the decoder starts from, finest first: the skip connections, then what leaves the middle.

        They have w, 2w, 4w, 8w channels at 1, 1/2, 1/4, 1/8 of the size that H and W are padded to, multiples of 8.
        """
        time = self.time(time)
        levels, _ = self.descend(state, time)
        return [*levels[:-1], self.middle(levels[-1], time)]

    def descend(self, state: Tensor, time: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The maps of all levels at the embedded time, finest first, and what strided convolutions make of them."""
        levels, strided = [], []
        features = self.enter(state)
        for level, down in zip(self.encoder, self.downs, strict=False):
            levels.append(level(features, time))
            features = down(levels[-1])
            strided.append(features)
        return [*levels, self.encoder[-1](features, time)], strided

    def enter(self, state: Tensor) -> Tensor:
        """The first convolution's map of the state, H and W padded to multiples of 8."""
        return self.stem(pad_to_multiple(state, 2 ** (_LEVELS - 1)))

    def decode(self, maps: list[Tensor], time: Tensor) -> list[Tensor]:
        """The decoder's maps, coarsest first, of the sizes and channels of the encoder's; the first is its last."""
        return self.noise_decoder(maps, self.time(time))

    def output(self, features: Tensor, like: Tensor) -> Tensor:
        """The noise (B, C', H, W), float32, from the decoder's last map; H and W are those of the state `like`."""
        return self.noise_decoder.output(features, like)


def base_width(size: DenoisingSize) -> int:
    """Channels of the first level.

    Raises:
        UserError: If there is no such size.
    """
    check_choice("size", size, DenoisingSize)
    return BASE_WIDTHS[size]


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
    """Decoder, from the deepest features to the image size: upsample, add the gated skip connection, residual block.

    Args:
        widths: Channels of the levels, from the first.
        out_channels: Channels of the result.
        time_channels: Channels of the embedded time.
        dropout: As in `DenoisingUNet`.
    """

    def __init__(self, widths: list[int], out_channels: int, time_channels: int, dropout: float) -> None:
        super().__init__()
        self._build(widths, time_channels, dropout)
        self.norm = group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def _build(self, widths: list[int], time_channels: int, dropout: float) -> None:
        rising = list(pairwise(reversed(widths)))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(below, channels, 4, stride=2, padding=1) for below, channels in rising
        )
        self.gates = nn.ModuleList(SkipGate(channels) for _, channels in rising)
        self.blocks = nn.ModuleList(ResidualBlock(channels, channels, time_channels, dropout) for _, channels in rising)
        for up in self.ups:
            scale_init(up)

    def forward(self, maps: list[Tensor], time: Tensor) -> list[Tensor]:
        """Decode the encoder's maps, finest first, at the embedded time: a map per level, coarsest first."""
        *skips, features = maps
        risen = [features]
        for up, gate, block, skip in zip(self.ups, self.gates, self.blocks, reversed(skips), strict=True):
            risen.append(block(up(risen[-1]).add_(gate(skip)), time))
        return risen

    def output(self, features: Tensor, like: Tensor) -> Tensor:
        """The last map as a result (B, C', H, W), float32, of the size of `like`."""
        height, width = like.shape[-2:]
        return self.head(silu(self.norm(features)))[..., :height, :width].float()


class ResidualBlock(nn.Module):
    """Normalise, SiLU, 3×3 convolution, twice; the time is added in between, the input at the end."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = group_norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, out_channels)
        self.norm2 = group_norm(out_channels)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        scale_init(self.conv2)
        self.shortcut = PointwiseConv2d(channels, out_channels) if channels != out_channels else nn.Identity()

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Transform features (B, C, H, W) at the embedded time (B or 1, time_channels)."""
        # a convolution's result is nobody else's, nor needed for its gradient: adding in place touches no fresh memory
        hidden = self.conv1(silu(self.norm1(features))).add_(self.time(F.silu(time))[..., None, None])
        return self.conv2(self.dropout(silu(self.norm2(hidden)))).add_(self.shortcut(features))


class SkipGate(nn.Module):
    """Gate of a skip connection: attention over channels times attention over space.

    Channels: average and maximum over the image through one perceptron, summed. Space: a 1×1 convolution.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        last = nn.Linear(hidden, channels)
        self.channels = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), last)
        self.space = PointwiseConv2d(channels, 1)
        nn.init.constant_(last.bias, _GATE_INIT / 2)  # it is added twice
        nn.init.constant_(self.space.bias, _GATE_INIT)  # type: ignore[arg-type]

    def forward(self, skip: Tensor) -> Tensor:
        """Weigh features (B, C, H, W) by numbers in (0, 1)."""
        scores = self.channels(skip.mean(dim=(2, 3))) + self.channels(skip.amax(dim=(2, 3)))
        return skip * self.space(skip).sigmoid() * scores.sigmoid()[..., None, None]


def group_norm(channels: int) -> GroupNorm:
    """Group normalisation in 32 groups; narrow maps have fewer, of two channels, as a group of one has no contrast."""
    return GroupNorm(min(32, channels // 2), channels)


@torch.no_grad()
def scale_init(layer: nn.Module) -> None:
    """Scale a layer's initial weights."""
    for parameter in layer.parameters():
        parameter.mul_(_BRANCH_INIT)
