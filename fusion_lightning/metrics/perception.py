"""Metrics that model human contrast sensitivity."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import perception


class Q_CB(FusionMetric):
    """Chen and Blum's perceptual metric; NaN when an image is constant."""

    definition = staticmethod(perception.q_cb)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)


class Q_CV(FusionMetric):
    """Chen and Varshney's perceptual error; lower is better."""

    definition = staticmethod(perception.q_cv)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, float("inf"))
