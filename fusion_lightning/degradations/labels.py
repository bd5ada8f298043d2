"""Labels of degradations: which effects can be seen in an image, how strong each is, and that as text again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.degradations.base import EFFECTS
from fusion_lightning.degradations.specification import parse


@dataclass(frozen=True)
class Kind:
    """An effect by the one parameter that says how strong it is.

    Attributes:
        parameter: The parameter.
        weakest: Where it begins to be seen; from there it grows or falls to the strongest.
        strongest: What an estimate ends at.
        by_level: Whether it is written as a severity, ``haze@3``; other parameters of it are not told.
    """

    parameter: str
    weakest: float
    strongest: float
    by_level: bool = False

    def is_seen(self, value: float) -> bool:
        """Whether an effect of this strength can be seen."""
        return value >= self.weakest if self.strongest > self.weakest else value <= self.weakest


KINDS: dict[str, Kind] = {
    "haze": Kind("beta", 0.015, 0.3, by_level=True),
    "rain": Kind("density", 0.5, 20.0, by_level=True),
    "low_light": Kind("gain", 0.8, 0.1, by_level=True),
    "over_exposure": Kind("gain", 1.08, 2.5, by_level=True),
    "low_contrast": Kind("contrast", 0.8, 0.05, by_level=True),
    "blur": Kind("sigma", 0.5, 8.0),
    "motion_blur": Kind("length", 2.5, 40.0),
    "defocus": Kind("radius", 0.8, 12.0),
    "downsample": Kind("factor", 1.5, 10.0),
    "noise": Kind("sigma", 1.5, 80.0),
    "poisson": Kind("peak", 400.0, 3.0),
    "stripes": Kind("sigma", 1.5, 40.0),
    "salt_pepper": Kind("salt", 3e-4, 0.2),
    "iso_noise": Kind("intensity", 0.02, 0.5),
    "quantize": Kind("levels", 80.0, 3.0),
    "jpeg": Kind("quality", 75.0, 3.0),
}
"""Every effect that can be told from an image alone, in the order in which a camera suffers them.

Low resolution counts where the image was enlarged again: a small image does not show that it was larger.
"""


BLURS = ("blur", "motion_blur", "defocus")
"""Kinds whose parameter is a length in pixels."""
SOFTENING = (*BLURS, "downsample")
"""Kinds that take fine details away, of which an image shows one at most."""


def seen_kinds(effects: Sequence[AppliedDegradation]) -> dict[str, float]:
    """Which kinds an image shows after some effects, each with the value of its parameter.

    Noise that was added twice adds up; of other effects the last one counts.
    """
    seen: dict[str, float] = {}
    for effect in effects:
        name, params = effect["name"], effect["params"]
        if name not in KINDS or (name == "downsample" and not params["up"]):
            continue
        value = float(params[KINDS[name].parameter])
        if name == "salt_pepper":
            value = (value + float(params["pepper"])) / 2
        if name == "noise":
            value = math.hypot(value, seen.get(name, 0.0))
        seen[name] = value
    return {name: value for name, value in seen.items() if KINDS[name].is_seen(value)}


def specify(kinds: Mapping[str, float], angle: float = 0.0, padding: str = "reflect", smaller: int = 1) -> str:
    """A degradation as text from its kinds and their parameters: ``blur(sigma=1.9)+noise(sigma=12)``, ``haze@3``.

    Args:
        kinds: Kind -> its parameter; ``identity`` if there are none.
        angle: Direction of a motion blur in degrees.
        padding: Border of blurs.
        smaller: How many times smaller than its scene the image is: the text then averages, after blurs of so many
            times the size and before the noise.
    """
    parts = []
    for name in KINDS:
        if name == "downsample" and smaller > 1:
            parts.append(f"downsample({smaller})")
        elif name in kinds:
            value = kinds[name] * smaller if name in BLURS else kinds[name]
            parts.append(_written(name, value, angle, padding))
    return "+".join(parts) or "identity"


def severity(name: str, value: float) -> int:
    """The severity, 1 to 5, of which an effect's parameter is nearest on a logarithmic scale."""
    ladder = [float(step[KINDS[name].parameter]) for step in EFFECTS[name].severities]
    return 1 + int(np.argmin([abs(math.log(value / step)) for step in ladder]))


def planned(specification: str) -> list[AppliedDegradation]:
    """The effects that a specification stands for, without the seeds of their random fields."""
    return without_seeds(parse(specification).plan(np.random.default_rng(0), (64, 64, 1)))


def without_seeds(effects: Sequence[AppliedDegradation]) -> list[AppliedDegradation]:
    """Effects without the seeds of their random fields: what of them an image can show."""
    return [
        {"name": one["name"], "params": {key: value for key, value in one["params"].items() if key != "seed"}}
        for one in effects
    ]


def _written(name: str, value: float, angle: float, padding: str) -> str:
    if KINDS[name].by_level:
        return f"{name}@{severity(name, value)}"
    if name == "salt_pepper":
        return f"{name}(salt={value:.2g}, pepper={value:.2g})"
    if name in ("downsample", "quantize", "jpeg"):
        whole = max(2, round(value)) if name != "jpeg" else min(100, max(1, round(value)))
        return f"{name}({KINDS[name].parameter}={whole}{', up=true' if name == 'downsample' else ''})"
    more = f", angle={angle:.0f}" if name == "motion_blur" else ""
    more += f", padding={padding}" if padding != "reflect" and name in BLURS else ""
    return f"{name}({KINDS[name].parameter}={value:.3g}{more})"
