"""LRRNet: low-rank and sparse parts of both sources, fused apart."""

from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import gradient_loss, intensity_loss
from fusion_lightning.methods.published import PublishedFusion
from fusion_lightning.networks.lrrnet import PUBLISHED_NAMES, LRRNetNetwork


class LRRNet(PublishedFusion):
    """LRRNet; trained here by intensity and gradient, without the features of a VGG16.

    Args:
        weights: The published weight file, used as it is: nothing is left to train. None trains from scratch. What the
            published network gives is dark and of little contrast: published images are stretched afterwards.
        gradient: Weight of the gradient loss beside the intensity loss.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `weights` cannot be read or is another network's.
    """

    network: LRRNetNetwork

    def __init__(self, weights: str | None = None, gradient: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.gradient = gradient
        self.network = LRRNetNetwork()
        self.use_weights(weights, PUBLISHED_NAMES)

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1], each of which is stretched to [0, 1] before."""
        return self.network(_stretched(a), _stretched(b))

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Intensity and gradient losses, (16) and (17) of CLED-Fusion, against the clean sources."""
        delivered, clean = self.luma_pairs(batch)
        fused = self.fuse_luma(*delivered)
        parts = {"intensity": intensity_loss(fused, *clean), "gradient": gradient_loss(fused, *clean)}
        return self.log_losses({"loss": parts["intensity"] + self.gradient * parts["gradient"], **parts}, batch)


def _stretched(image: Tensor) -> Tensor:
    darkest, brightest = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return (image - darkest) / (brightest - darkest + 1e-5)
