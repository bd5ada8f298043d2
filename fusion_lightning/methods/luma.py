"""Base class of methods that fuse luma and keep chroma."""

from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.methods.base import FusionMethod


class LumaFusion(FusionMethod):
    """Base of methods that fuse luma; the chroma of the source that has colour is kept.

    A subclass implements `fuse_luma`.
    """

    def fuse_luma(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse grey images (B, 1, H, W) in [0, 1] of one size to one of that shape; it may leave [0, 1] a little."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it fuses")

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Fuse the delivered sources.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        fused = self.fuse_luma(rgb_to_luma(a), rgb_to_luma(b)).float()
        return FusionOutput(fused=with_chroma(fused, cbcr_of(a, b)))

    def luma_pairs(self, batch: FusionBatch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The luma of the delivered and of the clean sources, (B, 1, H, W) in [0, 1]: what training is about.

        So a method learns to restore where training data are degraded and their clean versions are known.
        """
        (delivered_a, delivered_b), (clean_a, clean_b) = sources(batch), clean(batch)
        return (rgb_to_luma(delivered_a), rgb_to_luma(delivered_b)), (rgb_to_luma(clean_a), rgb_to_luma(clean_b))
