"""Gradient metrics: edges preserved, and edges that neither source has."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import gradients


class Qabf(FusionMetric):
    """Edge preservation, Xydeas and Petrović's global weighted ratio."""

    definition = staticmethod(gradients.qabf)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)


class Nabf(FusionMetric):
    """Artefacts: edges that neither source has, modified by Shreyamsha Kumar; lower is better."""

    definition = staticmethod(gradients.nabf)
    higher_is_better, is_differentiable = False, True
    value_range = (0.0, 1.0)


class Q_G(FusionMetric):
    """Gradient metric, the mean of Xydeas and Petrović's local ratio."""

    definition = staticmethod(gradients.q_g)
    higher_is_better, is_differentiable = True, True
    value_range = (0.0, 1.0)
