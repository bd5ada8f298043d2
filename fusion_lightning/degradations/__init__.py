"""Degradations of images: effects, their text form, named scenarios.

A degradation draws parameters from a generator (`Degradation.sample`) and applies them (`Degradation.apply`); a
scenario names one for each source. Both are written as text in configs: see `parse`.
"""

from fusion_lightning.degradations.base import (
    EFFECTS,
    Chain,
    Degradation,
    Identity,
    OneOf,
    degrade,
    reapply,
)
from fusion_lightning.degradations.blur import Blur, Defocus, MotionBlur
from fusion_lightning.degradations.borrowed import IsoNoise, Jpeg
from fusion_lightning.degradations.light import LowContrast, LowLight, OverExposure
from fusion_lightning.degradations.misalignment import Misalign, misalignment, true_warps
from fusion_lightning.degradations.noise import Noise, Poisson, SaltPepper, Stripes
from fusion_lightning.degradations.resolution import Downsample, Quantize
from fusion_lightning.degradations.weather import Haze, Rain

# after the effects, which their specifications name
from fusion_lightning.degradations.specification import parse  # isort: skip
from fusion_lightning.degradations.scenarios import SCENARIOS, Scenario, scenario  # isort: skip

__all__ = [
    "EFFECTS",
    "SCENARIOS",
    "Blur",
    "Chain",
    "Defocus",
    "Degradation",
    "Downsample",
    "Haze",
    "Identity",
    "IsoNoise",
    "Jpeg",
    "LowContrast",
    "LowLight",
    "Misalign",
    "MotionBlur",
    "Noise",
    "OneOf",
    "OverExposure",
    "Poisson",
    "Quantize",
    "Rain",
    "SaltPepper",
    "Scenario",
    "Stripes",
    "degrade",
    "misalignment",
    "parse",
    "reapply",
    "scenario",
    "true_warps",
]
