"""DRFusion's network: a U-Net with one encoder and two decoders, for the implicit noise and for the fusion weights."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from fusion_lightning.errors import check_choice
from fusion_lightning.networks.denoising_unet import (
    Decoder,
    DenoisingSize,
    DenoisingUNet,
    EncoderLevel,
    SkipGate,
    scale_init,
)

DecoderKind = Literal["fine", "coarse"]
"""Where decoders compute: after they enlarge, or before, as the published network."""


class TwoDecoderUNet(DenoisingUNet):
    """U-Net that predicts noise and a weight map from a state; both decoders see the same features.

    An untrained network predicts no noise and weights of one half.

    Args:
        size: `tiny`, `small` or `base`: 2, 8 and 31 million parameters, with coarse decoders 31.8 as published.
        in_channels: Channels of the state: in DRFusion two sources and their fusion.
        out_channels: Channels of the predicted noise.
        dropout: As in `DenoisingUNet`; the paper's is 0.1.
        decoder: `fine` decoders compute after they enlarge, and see the first level at full size. `coarse` ones
            compute before, as published: a quarter fewer operations, and next to nothing at full size.

    Raises:
        UserError: If `size` or `decoder` is none of those named.
    """

    def __init__(
        self,
        size: DenoisingSize = "base",
        in_channels: int = 3,
        out_channels: int = 3,
        dropout: float | None = None,
        decoder: DecoderKind = "fine",
    ) -> None:
        check_choice("decoder", decoder, DecoderKind)
        kind = CoarseDecoder if decoder == "coarse" else Decoder
        super().__init__(size, in_channels, out_channels, dropout, kind)
        self.coarse = decoder == "coarse"
        self.weight_decoder = kind(self.widths, 1, self.time_channels, self.dropout)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(  # type: ignore[override]
        self, state: Tensor, time: Tensor, with_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Predict noise and weights.

        Args:
            state: (B, C, H, W), any H and W.
            time: The step, (B,) or (1,) for all.
            with_weights: Whether the weights are wanted; their decoder does not run otherwise.

        Returns:
            The noise e (B, C', H, W), unbounded, and the weights (B, 1, H, W) in (0, 1) or None, both float32.
        """
        maps = self.encode(state, time)
        noise = self.output(self.decode(maps, time)[-1], state)
        if not with_weights:
            return noise, None
        return noise, self.weight_decoder.output(self.weight_decoder(maps, self.time(time))[-1], state).sigmoid()

    def encode(self, state: Tensor, time: Tensor) -> list[Tensor]:
        """As in `DenoisingUNet`; for coarse decoders the maps after the strided convolutions, and the deepest too."""
        if not self.coarse:
            return super().encode(state, time)
        time = self.time(time)
        levels, strided = self.descend(state, time)
        return [*strided, levels[-1], self.middle(levels[-1], time)]


class CoarseDecoder(Decoder):
    """The published decoder: add the gated skip connection, two residual blocks, then enlarge.

    Args:
        widths: Channels of the levels, from the first.
        out_channels: Channels of the result.
        time_channels: Channels of the embedded time.
        dropout: As in `DenoisingUNet`.
    """

    def _build(self, widths: list[int], time_channels: int, dropout: float) -> None:
        first, *_ = widths
        falling = list(pairwise((*reversed(widths), first)))
        self.gates = nn.ModuleList(SkipGate(channels) for channels, _ in falling)
        self.blocks = nn.ModuleList(EncoderLevel(*channels, time_channels, dropout) for channels in falling)
        # the deepest two levels are of one size
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1) if level else nn.Identity()
            for level, (_, channels) in enumerate(falling)
        )
        for up in self.ups[:-1]:  # the last one lets the first level pass
            scale_init(up)

    def forward(self, maps: list[Tensor], time: Tensor) -> list[Tensor]:
        """Decode the encoder's maps, finest first, at the embedded time: a map per level, coarsest first."""
        *skips, features = maps
        risen = [features]
        for gate, block, up, skip in zip(self.gates, self.blocks, self.ups, reversed(skips), strict=True):
            risen.append(up(block(gate(skip).add_(risen[-1]), time)))
        return risen
