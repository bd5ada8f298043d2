"""Restore, then fuse: one method made of two."""

from typing import Any

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, SampleDegradation
from fusion_lightning.errors import UserError
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.methods.loading import Specification, build_method


class RestoreThenFuse(FusionMethod):
    """A restorer, followed by a method that fuses what it gives: nothing flows back.

    Both are taken as they are, trained or without need of it.

    Args:
        restorer: What restores: a checkpoint (of `CLEDStage1`, `Restormer`, or another method that restores), a class
            (``ClassicalRestorer``), or ``{class_path: …, init_args: {…}}``.
        fuser: What fuses: likewise.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If a part cannot be built.
    """

    def __init__(
        self,
        restorer: Specification = "ClassicalRestorer",
        fuser: Specification = "LaplacianPyramid",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.restorer, self.fuser = build_method(restorer), build_method(fuser)
        self.requires_grad_(False)

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Restore both sources, then fuse them as if they had been delivered so.

        Raises:
            UserError: If the restorer restores nothing, the fuser fuses nothing, or controls are given.
        """
        self.check_no_controls(controls)
        restored = self.restorer.fuse(batch)
        if not {"restored_a", "restored_b"} <= set(restored):
            raise UserError(f"`restorer` must restore both sources, but {type(self.restorer).__name__} does not")
        nothing_left = [SampleDegradation(scenario="delivered", a=[], b=[]) for _ in batch["name"]]
        sources = {"source_a": restored["restored_a"], "source_b": restored["restored_b"]}
        output = self.fuser.fuse(FusionBatch(**{**batch, **sources, "degradation": nothing_left}))  # type: ignore[typeddict-item]
        if "fused" not in output:
            raise UserError(f"`fuser` must fuse, but {type(self.fuser).__name__} only restores")
        return FusionOutput(fused=output["fused"], restored_a=restored["restored_a"], restored_b=restored["restored_b"])
