"""Score of a registration against the known warp."""

from torch import Tensor

from fusion_lightning.metrics.base import ImageMean
from fusion_lightning.metrics.functional.registration import epe


class EPE(ImageMean):
    """End-point error of a warp in pixels, averaged over pairs.

    Example:
        >>> import torch
        >>> print(EPE()(torch.ones(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)))
        tensor(1.4142, dtype=torch.float64)
    """

    higher_is_better, is_differentiable = False, True

    def update(self, warp: Tensor, known: Tensor) -> None:
        """Score warps against the known ones, both (B, 2, H, W)."""
        self.accumulate(epe(warp, known))
