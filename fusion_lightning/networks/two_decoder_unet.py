"""DRFusion's network: a U-Net with one encoder and two decoders, for the implicit noise and for the fusion weights."""

import torch
from torch import Tensor

from fusion_lightning.networks.denoising_unet import Decoder, DenoisingSize, DenoisingUNet


class TwoDecoderUNet(DenoisingUNet):
    """U-Net that predicts noise and a weight map from a state; both decoders see the same features.

    An untrained network predicts no noise and weights of one half.

    Args:
        size: `tiny`, `small` or `base`: 2, 8 and 31 million parameters, 31.8 as published.
        in_channels: Channels of the state: in DRFusion two sources and their fusion.
        out_channels: Channels of the predicted noise.
        dropout: As in `DenoisingUNet`; the paper's is 0.1.
    """

    def __init__(
        self, size: DenoisingSize = "base", in_channels: int = 3, out_channels: int = 3, dropout: float | None = None
    ) -> None:
        super().__init__(size, in_channels, out_channels, dropout)
        self.weight_decoder = Decoder(self.widths, 1, self.time_channels, self.dropout)
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
