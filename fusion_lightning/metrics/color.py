"""Colour metrics against the source that has colour; NaN for pairs without."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import color


class saturation(FusionMetric):
    """Ratio of the fusion's saturation to the source's; 1 is ideal, less is paler."""

    definition = staticmethod(color.saturation)
    higher_is_better, is_differentiable = None, False
    value_range = (0.0, float("inf"))

    @classmethod
    def distance(cls, value: float) -> float:
        """How far a value is from 1, at which the saturation is the source's."""
        return abs(value - 1)


class hue(FusionMetric):
    """Mean hue error against the source in colour, in degrees, weighted by its chroma."""

    definition = staticmethod(color.hue)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, 180.0)


class CIEDE2000(FusionMetric):
    """Mean colour difference ΔE00 to the source in colour; about 1 is just visible. Lightness counts as well."""

    definition = staticmethod(color.ciede2000)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, float("inf"))
