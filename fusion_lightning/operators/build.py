"""Builds the linear operator of a recorded degradation."""

from collections.abc import Callable, Sequence

import numpy as np

from fusion_lightning.batch import AppliedDegradation
from fusion_lightning.imaging import kernels
from fusion_lightning.operators.blur import DEFAULT_RHO, Blur, Padding
from fusion_lightning.operators.downsample import Downsample
from fusion_lightning.operators.linear import Compose, Identity, LinearOperator, PerSample


def from_degradations(
    effects: Sequence[AppliedDegradation],
    size: tuple[int, int] | None = None,
    rho: float = DEFAULT_RHO,
    padding: Padding | None = None,
) -> LinearOperator:
    """Build the operator, and the noise level, of a recorded degradation.

    Blurs and area downsampling that keeps the small size become operators. Noise becomes `LinearOperator.sigma`, and
    shrinks with every averaging that came after it. What is not linear (haze, rain, light, quantising, resampling back
    to size) has no operator and counts as the identity.

    Args:
        effects: In the order in which they were applied, as the batch's ``degradation`` holds them.
        size: (H, W) of the clean image; see `Downsample`.
        rho: ρ of the Wiener inverse.
        padding: Border of the blurs; as recorded if None.
    """
    operators: list[LinearOperator] = []
    variance = 0.0
    for effect in effects:
        name, params = effect["name"], effect["params"]
        if name in _KERNELS:
            kernel = _KERNELS[name](params)
            operators.append(Blur(kernel, padding or params["padding"], rho))
            variance *= float(np.square(kernel).sum())
        elif _averages(effect):
            operators.append(Downsample(params["factor"], size))
            size = size and (-(-size[0] // params["factor"]), -(-size[1] // params["factor"]))
            variance /= params["factor"] ** 2
        elif name in _VARIANCES:
            variance += _VARIANCES[name](params)
    operators = operators or [Identity()]
    operator = operators[0] if len(operators) == 1 else Compose(*operators)
    operator.sigma = variance**0.5
    return operator


def from_batch(
    degradations: Sequence[Sequence[AppliedDegradation]],
    size: tuple[int, int] | None = None,
    rho: float = DEFAULT_RHO,
    padding: Padding | None = None,
) -> PerSample:
    """Build the operator of a batch from what was applied to each of its samples; see `from_degradations`."""
    known: dict[str, LinearOperator] = {}
    operators = []
    for effects in degradations:
        # a seed changes the noise, not the operator
        key = repr([(e["name"], {k: v for k, v in e["params"].items() if k != "seed"}) for e in effects])
        if key not in known:
            known[key] = from_degradations(effects, size, rho, padding)
        operators.append(known[key])
    return PerSample(operators)


def _averages(effect: AppliedDegradation) -> bool:
    """Whether an effect is average pooling that keeps the small size."""
    params = effect["params"]
    return effect["name"] == "downsample" and params["method"] == "area" and not params["up"]


def without_operator(effects: Sequence[AppliedDegradation]) -> list[str]:
    """Names of the effects that `from_degradations` takes for the identity, other than rounding to grey levels."""
    return [
        effect["name"]
        for effect in effects
        if effect["name"] not in (*_KERNELS, *_VARIANCES, "quantize") and not _averages(effect)
    ]


_KERNELS: dict[str, Callable[[dict[str, float]], np.ndarray]] = {
    "blur": lambda params: kernels.gaussian(params["sigma"]),
    "motion_blur": lambda params: kernels.line(params["length"], params["angle"]),
    "defocus": lambda params: kernels.disk(params["radius"]),
}

_VARIANCES: dict[str, Callable[[dict[str, float]], float]] = {
    "noise": lambda params: (params["sigma"] / 255) ** 2,
    "stripes": lambda params: (params["sigma"] / 255) ** 2,
    # photon noise and dead pixels as they are at mid-grey
    "poisson": lambda params: 0.5 / params["peak"],
    "salt_pepper": lambda params: 0.25 * (params["salt"] + params["pepper"]),
}
"""Noise variance in [0, 1] units."""
