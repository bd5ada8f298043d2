"""Methods that fuse brightness alone and leave colour as it is."""

from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.color import chroma, luma, merge
from fusion_lightning.methods.base import Controls, FusionMethod, FusionOutput, same_size


class LumaFusion(FusionMethod):
    """A method that fuses the luma of its sources; the chroma of the source that has colour is kept.

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
        a, b = same_size(batch["source_a"], batch["source_b"])
        fused = self.fuse_luma(luma(a), luma(b)).float()
        colored = next((source for source in (a, b) if source.shape[1] == 3), None)
        return FusionOutput(fused=(fused if colored is None else merge(fused, chroma(colored))).clamp(0, 1))

    def luma_pairs(self, batch: FusionBatch) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The luma of the delivered and of the clean sources, (B, 1, H, W) in [0, 1]: what training is about.

        A method learns to restore as far as its training data are degraded and their clean versions known.
        """
        delivered = same_size(luma(batch["source_a"]), luma(batch["source_b"]))
        return delivered, same_size(luma(batch["clean_a"]), luma(batch["clean_b"]))
