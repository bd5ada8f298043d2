"""Phase congruency."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import phase


class Q_P(FusionMetric):
    """Phase congruency metric."""

    definition = staticmethod(phase.q_p)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)
