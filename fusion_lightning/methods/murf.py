"""MURF's fusion of aligned pairs; its registration is not part of it."""

from typing import Any

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import enhanced_gradient_loss, structural_similarity
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.networks.murf import MURFNetwork


class MURFusion(LumaFusion):
    """MURF's fusion branch, for pairs that lie on top of each other: put a registration before it where they do not.

    Args:
        gradient: Weight of the gradient loss beside the structural similarity.
        exponent: To which power the sources' gradients are raised: below 1 weak ones are enhanced.
        **options: Those of `FusionMethod`.
    """

    def __init__(self, gradient: float = 10.0, exponent: float = 0.7, **options: Any) -> None:
        super().__init__(**options)
        self.gradient, self.exponent = gradient, exponent
        self.network = MURFNetwork()

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1]."""
        return self.network(a, b)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """1 − (SSIM(f, a) + SSIM(f, b)) / 2, and the distance from the sources' enhanced gradients."""
        delivered, clean = self.luma_pairs(batch)
        fused = self.fuse_luma(*delivered).float()
        similar = [structural_similarity(fused, source).mean() for source in clean]
        structure = 1 - (similar[0] + similar[1]) / 2
        gradient = enhanced_gradient_loss(fused, *clean, self.exponent)
        losses = {"loss": structure + self.gradient * gradient, "structure": structure, "gradient": gradient}
        return self.log_losses(losses, batch)
