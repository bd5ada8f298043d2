"""SeAFusion: a light network with gradient residual dense blocks."""

from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import gradient_loss, intensity_loss
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.seafusion import PUBLISHED_NAMES, UNUSED, SeAFusionNetwork


class SeAFusion(PublishedFusion):
    """SeAFusion; trained here by its content loss alone, without a network that segments the fusion.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch.
        gradient: Weight of the gradient loss beside the intensity loss.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: SeAFusionNetwork

    def __init__(self, weights: str | None = None, gradient: float = 10.0, **options: Any) -> None:
        super().__init__(**options)
        self.gradient = gradient
        self.network = SeAFusionNetwork()
        self.use_weights(weights, PUBLISHED_NAMES, UNUSED)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Distances of the fusion and of its |∂x| + |∂y| from the pointwise maximum over the clean sources."""
        delivered, clean = self.luma_pairs(batch)
        fused = self.network(*delivered)
        parts = {"intensity": intensity_loss(fused, *clean), "gradient": gradient_loss(fused, *clean, norm="l1")}
        return self.log_losses({"loss": parts["intensity"] + self.gradient * parts["gradient"], **parts}, batch)
