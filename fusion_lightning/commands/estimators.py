"""The estimator that ``--estimator`` names, and what it says of a pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion_lightning.batch import MODALITIES, FusionBatch, to_device
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.scans import are_scans
from fusion_lightning.methods import Estimator, build_method
from fusion_lightning.methods.degradation_estimator import with_degradation
from fusion_lightning.zoo import ESTIMATOR


def estimator_name(name: str | None, files: Sequence[Path]) -> str:
    """What ``--estimator`` names, or what estimates by default, which is said then."""
    if name is None:
        unseen = ", which never saw medical ones" if are_scans(files) else ""
        notice(
            f"no --estimator was named, so {ESTIMATOR} looks at the images{unseen}; "
            "ClassicalEstimator looks for noise and Gaussian blur only"
        )
        return ESTIMATOR
    return name


def open_estimator(name: str) -> Estimator:
    """The estimator of a name: what `build_method` makes of it.

    Raises:
        UserError: If there is none of that name, or it does not estimate.
    """
    estimator = build_method(name)
    if not isinstance(estimator, Estimator):
        raise UserError(f"--estimator {name} is a {type(estimator).__name__}, which does not estimate degradations")
    return estimator


@dataclass(frozen=True)
class Estimating:
    """Finds out the degradation of some sources.

    Attributes:
        estimator: What estimates.
        sides: The sources.
    """

    estimator: Estimator
    sides: Sequence[str]

    def __call__(self, batch: FusionBatch) -> tuple[FusionBatch, str]:
        """A pair (a batch of one) with the degradation that was found, and what that is."""
        (texts,) = self.estimator.pair_texts(to_device(batch, self.estimator.device))
        found = {side: texts[side] for side in MODALITIES if side in self.sides}
        return with_degradation(batch, [found]), ", ".join(f"source {side} {text}" for side, text in found.items())
