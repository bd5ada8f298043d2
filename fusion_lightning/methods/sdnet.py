"""SDNet: squeeze two sources into one image that they can be told from again."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.proportional import intensity_errors, richer_texture_error
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.sdnet import PUBLISHED_NAMES, SDNetNetwork


class SDNet(PublishedFusion):
    """SDNet: fuses, and in training takes the fusion apart into both sources again.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        intensity_b: α, weight of the intensity of source b beside that of a.
        texture: β, weight of the texture beside the intensities.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: SDNetNetwork

    def __init__(
        self, weights: str | None = None, intensity_b: float = 0.5, texture: float = 10.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.intensity_b, self.texture = intensity_b, texture
        self.network = SDNetNetwork()
        self.use_weights(weights, PUBLISHED_NAMES)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """The clean sources' intensities, the richer texture, and the sources as decomposed from the fusion."""
        delivered, clean = self.luma_pairs(batch)
        fused = self.network(*delivered)
        of_a, of_b = intensity_errors(fused, *clean)
        again_a, again_b = self.network.decompose(fused)
        parts = {
            "intensity": of_a + self.intensity_b * of_b,
            "texture": richer_texture_error(fused, *clean),
            "decomposition": F.mse_loss(again_a.float(), clean[0]) + F.mse_loss(again_b.float(), clean[1]),
        }
        loss = parts["intensity"] + self.texture * parts["texture"] + parts["decomposition"]
        return self.log_losses({"loss": loss, **parts}, batch)
