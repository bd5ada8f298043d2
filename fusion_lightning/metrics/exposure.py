"""Multi-exposure structural similarity."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import exposure


class MEF_SSIM(FusionMetric):
    """Multi-exposure structural similarity, which one toolbox calls MS_SSIM."""

    definition = staticmethod(exposure.mef_ssim)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)
