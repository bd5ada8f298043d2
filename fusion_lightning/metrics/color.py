"""Colour scores: what is left of the colour of the source that has it. NaN for pairs without colour."""

from fusion_lightning.metrics.base import FusionMetric
from fusion_lightning.metrics.functional import color


class saturation(FusionMetric):
    """Saturation of the fusion as a share of the source's; 1 keeps it, less is paler, more is gaudier."""

    definition = staticmethod(color.saturation)
    higher_is_better, is_differentiable = None, False
    value_range = (0.0, float("inf"))

    @classmethod
    def distance(cls, value: float) -> float:
        """How far a value is from 1, at which the saturation is the source's."""
        return abs(value - 1)


class hue(FusionMetric):
    """How far hues turn against the source in colour, in degrees, weighted by its chroma."""

    definition = staticmethod(color.hue)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, 180.0)


class CIEDE2000(FusionMetric):
    """Mean colour difference ΔE00 to the source in colour; about 1 is just visible. Lightness counts as well."""

    definition = staticmethod(color.ciede2000)
    higher_is_better, is_differentiable = False, False
    value_range = (0.0, float("inf"))
