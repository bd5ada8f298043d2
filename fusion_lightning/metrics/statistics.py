"""Metrics on the pixels themselves: contrast, detail, correlation and error."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import statistics


class SD(FusionMetric):
    """Standard deviation of the fused grey levels."""

    definition = staticmethod(statistics.sd)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 127.5)


class SF(FusionMetric):
    """Spatial frequency of the fused image, in grey levels."""

    definition = staticmethod(statistics.sf)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class AG(FusionMetric):
    """Average gradient of the fused image, in grey levels per pixel."""

    definition = staticmethod(statistics.ag)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class CC(FusionMetric):
    """Correlation coefficient, the mean over the sources; NaN when an image is constant."""

    definition = staticmethod(statistics.cc)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)


class SCD(FusionMetric):
    """Sum of the correlations of differences; NaN when the fused image is a source."""

    definition = staticmethod(statistics.scd)
    higher_is_better, is_differentiable = True, True
    value_range = (-2.0, 2.0)


class PSNR(FusionMetric):
    """Peak signal-to-noise ratio in dB, on the mean of the errors against the two sources."""

    definition = staticmethod(statistics.psnr)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, float("inf"))


class MSE(FusionMetric):
    """Mean squared error on [0, 1], the mean over the sources; lower is better."""

    definition = staticmethod(statistics.mse)
    higher_is_better, is_differentiable = False, True
    value_range = (0.0, 1.0)
