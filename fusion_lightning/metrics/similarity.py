"""Weighted structural similarity to either source."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import similarity


class Q_S(FusionMetric):
    """Saliency-weighted structural similarity (Piella)."""

    definition = staticmethod(similarity.q_s)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)


class Q_C(FusionMetric):
    """Covariance-weighted structural similarity (Cvejic); NaN where all is flat in a window."""

    definition = staticmethod(similarity.q_c)
    higher_is_better, is_differentiable = True, False
    value_range = (-1.0, 1.0)


class Q_Y(FusionMetric):
    """Yang's structural similarity metric."""

    definition = staticmethod(similarity.q_y)
    higher_is_better, is_differentiable = True, True
    value_range = (-1.0, 1.0)
