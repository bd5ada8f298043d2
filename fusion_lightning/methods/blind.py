"""Blind: an estimator says what went wrong, and a method that has to be told is told that."""

from typing import Any

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput
from fusion_lightning.errors import UserError
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.degradation_estimator import Estimator
from fusion_lightning.methods.loading import Specification, build_method
from fusion_lightning.zoo import ESTIMATOR


class Blind(FusionMethod):
    """A method that makes use of the known degradation, given what an estimator finds in the images instead.

    What the batch records is not looked at. Both parts are taken as they are, trained or without need of it.

    Args:
        method: What fuses: a checkpoint (of `DRFusion`, or another method that is told the degradation), a class
            (``RestoreThenFuse``), or ``{class_path: …, init_args: {…}}``.
        estimator: What estimates: likewise. By default the one that ships; `ClassicalEstimator` finds noise and blur.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If a part cannot be built, or the estimator is none.
    """

    def __init__(
        self,
        method: Specification = "RestoreThenFuse",
        estimator: Specification = ESTIMATOR,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.method, self.estimator = build_method(method), build_method(estimator)
        if not isinstance(self.estimator, Estimator):
            raise UserError(f"`estimator` must estimate degradations, but {type(self.estimator).__name__} does not")
        self.controls = self.method.controls
        self.requires_grad_(False)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Estimate the degradation of both sources, then fuse them as if it had been recorded.

        Raises:
            UserError: If the method refuses the controls.
        """
        assert isinstance(self.estimator, Estimator)
        return self.method.fuse(self.estimator.estimated(batch), controls)
