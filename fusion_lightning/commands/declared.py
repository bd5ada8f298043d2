"""Degradation declared on the command line, as a batch's `degradation`."""

import numpy as np

from fusion_lightning.batch import AppliedDegradation, SampleDegradation
from fusion_lightning.degradations import parse
from fusion_lightning.degradations.labels import without_seeds
from fusion_lightning.errors import UserError
from fusion_lightning.operators import without_operator

AUTO = "auto"
"""Stands for a degradation that an estimator finds."""


def declared_degradation(degradation_a: str | None, degradation_b: str | None, noise: float) -> SampleDegradation:
    """The `degradation` that ``--degradation-a``, ``--degradation-b`` and ``--noise`` declare.

    Args:
        degradation_a: Specification of what happened to source a, in order, with fixed strengths; None is nothing, so
            is `AUTO` until it is estimated.
        degradation_b: The same for source b.
        noise: Standard deviation of the noise on both sources, added after all of it, in [0, 1] units.

    Raises:
        UserError: If a specification cannot be read, leaves something open, or holds what is not linear.
    """
    if not 0 <= noise < 1:
        meant = f": {noise:g} of 255 grey levels is {noise / 255:.2g}" if 1 <= noise <= 255 else ""
        raise UserError(f"--noise is counted in a range of 1, so at least 0 and below 1, but got {noise}{meant}")
    if AUTO in (degradation_a, degradation_b) and noise > 0:
        raise UserError(f"--noise is estimated, too, where a degradation is `{AUTO}`: leave it out")
    if degradation_a is None and degradation_b is None and noise == 0:
        return SampleDegradation(scenario="delivered", a=[], b=[])
    added: list[AppliedDegradation] = [{"name": "noise", "params": {"sigma": 255 * noise}}] if noise else []
    return SampleDegradation(
        scenario="declared",
        a=_effects("--degradation-a", degradation_a) + added,
        b=_effects("--degradation-b", degradation_b) + added,
    )


def _effects(option: str, specification: str | None) -> list[AppliedDegradation]:
    if specification is None or specification == AUTO:
        return []
    degradation = parse(specification)
    one, other = (without_seeds(degradation.plan(np.random.default_rng(seed), (64, 64, 1))) for seed in (0, 1))
    if names := without_operator([*one, *other]):  # first: fixed strengths would not help
        raise UserError(
            f"{option} {specification!r}: `{names[0]}` is no linear operator; blurs, `downsample` with `method=area` "
            "and `up=false`, and noise can be undone"
        )
    if one != other:
        raise UserError(f"{option} {specification!r} leaves something to chance: give one number for every strength")
    return one
