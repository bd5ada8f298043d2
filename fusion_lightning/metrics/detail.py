"""Metrics on detail: multiscale edges and spatial frequency."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import detail


class Q_M(FusionMetric):
    """Multiscale edge preservation in two Haar levels."""

    definition = staticmethod(detail.q_m)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 3.0)


class Q_SF(FusionMetric):
    """Ratio of spatial frequency error; 0 is ideal, negative means lost detail."""

    definition = staticmethod(detail.q_sf)
    higher_is_better, is_differentiable = None, True
    value_range = (-1.0, float("inf"))
