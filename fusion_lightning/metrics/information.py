"""Metrics on histograms: entropy and mutual information."""

from typing import Literal

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import information


class MI(FusionMetric):
    """Mutual information in bits, summed over the sources.

    Args:
        merge_top_levels: Reproduce MATLAB, whose joint histograms merge the levels 254 and 255.
    """

    definition = staticmethod(information.mi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 16.0)

    def __init__(self, merge_top_levels: bool = False) -> None:
        super().__init__(merge_top_levels=merge_top_levels)


class EN(FusionMetric):
    """Entropy of the fused image in bits."""

    definition = staticmethod(information.en)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 8.0)


class Q_MI(FusionMetric):
    """Normalised mutual information (Hossny), summed over the sources."""

    definition = staticmethod(information.q_mi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 2.0)


class Q_NCIE(FusionMetric):
    """Nonlinear correlation information entropy; 0.80 to 0.82 for real fusions."""

    definition = staticmethod(information.q_ncie)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)


class Q_TE(FusionMetric):
    """Tsallis entropy metric.

    Args:
        marginals: `published` reproduces the toolbox, which swaps the marginals.
    """

    definition = staticmethod(information.q_te)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, float("inf"))

    def __init__(self, marginals: Literal["published", "textbook"] = "published") -> None:
        super().__init__(marginals=marginals)
