"""Feature mutual information."""

from typing import Literal

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import features


class FMI(FusionMetric, listed=False):
    """Feature mutual information, the mean over the sources; users name it by its features, as `FMI_pixel`.

    Args:
        features: What the 3x3 windows look at.
    """

    definition = staticmethod(features.fmi)
    higher_is_better, is_differentiable = True, False
    value_range = (0.0, 1.0)

    def __init__(self, features: Literal["none", "gradient", "dct"] = "none") -> None:
        super().__init__(features=features)


class FMI_pixel(FMI):
    """Feature mutual information of the grey levels themselves: `FMI` with features "none"."""

    def __init__(self) -> None:
        super().__init__("none")
