"""The five metrics of CLED-Fusion's tables."""

from .base import FusionMetric
from .functional import gradients, information, structure


class MI(FusionMetric):
    """Mutual information."""

    definition = staticmethod(information.mi)
    higher_is_better, is_differentiable = True, False
    lowest, highest = 0.0, 16.0


class VIF(FusionMetric):
    """Visual information fidelity."""

    definition = staticmethod(structure.vif)
    higher_is_better, is_differentiable = True, True
    lowest, highest = 0.0, float("inf")


class Qabf(FusionMetric):
    """Edge preservation."""

    definition = staticmethod(gradients.qabf)
    higher_is_better, is_differentiable = True, True
    lowest, highest = 0.0, 1.0


class Nabf(FusionMetric):
    """Artefacts."""

    definition = staticmethod(gradients.nabf)
    higher_is_better, is_differentiable = False, False
    lowest, highest = 0.0, 1.0


class SSIM(FusionMetric):
    """Structural similarity."""

    definition = staticmethod(structure.ssim)
    higher_is_better, is_differentiable = True, True
    lowest, highest = -2.0, 2.0
