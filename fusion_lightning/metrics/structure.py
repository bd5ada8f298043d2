"""Metrics on local moments: visual information fidelity and structural similarity."""

from typing import Literal

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import structure
from fusion_lightning.metrics.functional.structure import Reduction


class VIF(FusionMetric):
    """Visual information fidelity in the pixel domain; 2 for identical images (1 with the mean).

    Args:
        reduction: `sum` or `mean` over the two sources.
    """

    definition = staticmethod(structure.vif)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))

    def __init__(self, reduction: Reduction = "sum") -> None:
        super().__init__(reduction=reduction)


class SSIM(FusionMetric):
    """Structural similarity, summed over the sources.

    Args:
        reduction: `sum` or `mean` over the two sources.
        data_range: L of the constants; 1 is MATLAB's trap for doubles in 0..255.
    """

    definition = staticmethod(structure.ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (-2.0, 2.0)

    def __init__(self, reduction: Reduction = "sum", data_range: float = 255.0) -> None:
        super().__init__(reduction=reduction, data_range=data_range)


class MS_SSIM(FusionMetric):
    """Multi-scale structural similarity (Wang's), summed over the sources; at least 176x176 pixels.

    Args:
        reduction: `sum` or `mean` over the two sources.
        border: `reflect` as in torchmetrics, or `valid` as in Wang's code, at the coarsest scale.
    """

    definition = staticmethod(structure.ms_ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 2.0)

    def __init__(self, reduction: Reduction = "sum", border: Literal["reflect", "valid"] = "reflect") -> None:
        super().__init__(reduction=reduction, border=border)
