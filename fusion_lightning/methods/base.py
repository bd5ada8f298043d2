"""Base class of all fusion methods."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, as_precise, require_finite, sources
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.color import ColorRule, keep_saturation
from fusion_lightning.metrics import CLED, FusionMetric
from fusion_lightning.scoring import (
    REGISTRATION_SCORES,
    RESTORATION_SCORES,
    ScoreRow,
    StepOutput,
    score_images,
    stage_means,
)

CLED_METRICS = tuple(metric.__name__ for metric in CLED)
"""Names of the five metrics of CLED-Fusion's tables."""


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam at 1e-4, the default optimizer."""
    return torch.optim.Adam(parameters, lr=1e-4)


class FusionMethod(LightningModule):
    """Base of all methods: subclasses implement `fuse` and, if they learn, `training_step`.

    Validation and test score what `fuse` returns: the fusion with the fusion metrics, the restored sources by PSNR and
    SSIM against the clean ones. Keys are ``<stage>/<metric>``, restored sources ``<stage>/PSNR_a`` and so on, the
    delivered ones ``<stage>/PSNR_a_in`` to compare with, and ``<stage>/PSNR_restored`` is the mean over both.
    Averaged over sources that differ from their clean version. Warps are scored by their end-point error in pixels,
    ``<stage>/EPE``, beside ``<stage>/EPE_in`` of the source as delivered, where ``misalign`` moved it.

    A subclass takes its own arguments and ``**options``, which it passes on to this constructor. All of them are saved
    as hyper-parameters, which a checkpoint is rebuilt from, but for `HPARAMS_NOT_SAVED`.

    Args:
        optimizer: Makes the optimizer from the trainable parameters.
        scheduler: Makes the learning-rate scheduler from the optimizer; stepped once per training step.
        metrics: Names of the fusion metrics to log.
        score_against: Score the fusion against the clean sources where they are known (``clean``), as tables
            under degradation do, or against what the sensors gave (``delivered``).
        color_rule: Colour of the fusion where its luma departs from that of the source in colour: chroma is scaled with
            it so that the ``saturation`` stays, or the ``chroma`` stays as the method merges it.
        size: Size of the networks. Overlays set it for every method; one that has no sizes makes no use of it.

    Raises:
        UserError: If a metric's name is unknown.
    """

    uses_degradation: ClassVar[bool] = False
    """Whether `fuse` makes use of the batch's `degradation`."""

    sees_whole_image: ClassVar[bool] = True
    """Whether a pixel of the result depends on pixels far away: by attention, normalisation or a spectrum. Fused in
    tiles, such a method gives something else than for the whole image."""

    controls: tuple[str, ...] = ()
    """The fields of `Controls` that `fuse` obeys; it refuses the others."""

    HPARAMS_NOT_SAVED = ("optimizer", "scheduler")
    """Constructor arguments that do not go into checkpoints: callables, not needed to rebuild the method."""

    def __init__(
        self,
        optimizer: OptimizerCallable = adam,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[str] = CLED_METRICS,
        score_against: Literal["clean", "delivered"] = "clean",
        color_rule: ColorRule = "saturation",
        size: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=self.HPARAMS_NOT_SAVED, logger=False)
        self.optimizer = optimizer
        self.scheduler = scheduler
        check_choice("color_rule", color_rule, ColorRule)
        self.score_against = score_against
        self.color_rule: ColorRule = color_rule
        self.fusion_scores = tuple(metrics)
        self.scores = nn.ModuleDict({stage: stage_means(metrics) for stage in ("val", "test")})

    def forward(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Fuse a batch as `fuse` does and colour the fusion by `color_rule`: what is scored, shown and written.

        The networks compute in the precision of their weights; what comes back is in full precision.
        """
        output = self.fuse(as_precise(batch, self._precision), controls)
        images = {part: image if image.dtype == torch.float64 else image.float() for part, image in output.items()}  # type: ignore[attr-defined]
        output = FusionOutput(**images)  # type: ignore[typeddict-item]
        if self.color_rule == "saturation" and "fused" in output and output["fused"].shape[1] == 3:
            delivered = sources(batch)
            seen = (output.get("restored_a", delivered[0]), output.get("restored_b", delivered[1]))
            colored = next((image for image in seen if image.shape[1] == 3), None)
            if colored is not None:
                output["fused"] = keep_saturation(output["fused"], colored.to(output["fused"].dtype))
        return output

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Fuse a batch of sources (B, 1 or 3, H, W) in [0, 1] of any size.

        Args:
            batch: The sources; only `source_a`, `source_b` and `degradation` are looked at.
            controls: The user's knobs; None leaves the method as trained.

        Raises:
            UserError: If the method has no such controls.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it fuses")

    def trajectory_sheet(self, batch: FusionBatch) -> tuple[list[list[Tensor]], list[str]] | None:
        """Pictures of every step of the first pair's fusion, for methods that go step by step.

        Returns:
            Rows of pictures (1 or 3, H, W) in [0, 1], one row per step, and the columns' labels; None if there is
            nothing to show.
        """
        return None

    def check_no_controls(self, controls: Controls | None) -> None:
        """Refuse controls: for methods that have none.

        Raises:
            UserError: If any control differs from its neutral value.
        """
        if controls not in (None, Controls()):
            raise UserError(f"{type(self).__name__} has no strength or balance controls: leave them at their defaults")

    def balance_alone(self, controls: Controls | None) -> float:
        """The balance; for methods that have no other knob.

        Raises:
            UserError: If a strength differs from its neutral value.
        """
        controls = controls or Controls()
        if controls != Controls(balance=controls.balance):
            raise UserError(f"{type(self).__name__} has no strength controls: leave them at 1")
        return controls.balance

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a part with nothing but frozen parameters stays in evaluation."""
        super().train(mode)
        for part in self.children():
            learns = [parameter.requires_grad for parameter in part.parameters()]
            if learns and not any(learns):
                part.eval()
        return self

    @classmethod
    def learns(cls) -> bool:
        """Whether there is anything to train: a `training_step`."""
        return cls.training_step is not FusionMethod.training_step

    def setup(self, stage: str) -> None:
        """Lay convolution weights out channels-last, which every backend runs at least as fast."""
        self.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> Any:
        """Optimize what is not frozen, nothing without a `training_step`; a scheduler counts steps, not epochs.

        Raises:
            UserError: If the optimizer or the scheduler refuses its options.
        """
        if not self.learns():
            return None
        try:
            optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        except (TypeError, ValueError) as error:
            raise UserError(f"`optimizer` cannot be used: {error}") from error
        if self.scheduler is None:
            return optimizer
        try:
            scheduler = self.scheduler(optimizer)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"`scheduler` cannot be used: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def validation_step(self, batch: FusionBatch, batch_idx: int) -> StepOutput:
        """Fuse and score a validation batch."""
        return self._score("val", batch)

    def test_step(self, batch: FusionBatch, batch_idx: int) -> StepOutput:
        """Fuse and score a test batch."""
        return self._score("test", batch)

    def predict_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:
        """Fuse a batch."""
        output: FusionOutput = self(batch)
        require_finite(output, batch["name"])
        return output

    def log_losses(self, losses: Mapping[str, Tensor], batch: FusionBatch) -> Tensor:
        """Log the named parts of a loss as ``train/<name>`` and return the part called ``loss``."""
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in losses.items()},
            batch_size=len(batch["name"]),
            sync_dist=True,
        )
        return losses["loss"]

    def _score(self, stage: str, batch: FusionBatch) -> StepOutput:
        output = self(batch)
        require_finite(output, batch["name"])
        # half precision, mixed or true, is for networks: a metric in bfloat16 is a wrong number
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.autocast(self.device.type, enabled=False):
                return StepOutput(output=output, rows=self._rows(stage, batch, output))
        finally:
            torch.set_default_dtype(default)

    @property
    def _precision(self) -> torch.dtype:
        """The floating-point type of the weights; full precision where there are none."""
        return next((one.dtype for one in self.parameters() if one.is_floating_point()), torch.float32)

    def on_after_batch_transfer(self, batch: FusionBatch, dataloader_idx: int) -> FusionBatch:
        """Bring what is trained on to the precision of the weights; what is scored stays as it is."""
        return as_precise(batch, self._precision) if self._trainer is not None and self.trainer.training else batch

    def _rows(self, stage: str, batch: FusionBatch, output: FusionOutput) -> list[ScoreRow]:
        metrics = cast(Mapping[str, FusionMetric], self.scores[stage])
        fusion = {key: metrics[key] for key in self.fusion_scores}
        rows = score_images(batch, output, fusion, self.score_against)

        def record(key: str, of: str, names: Sequence[str] | None = None) -> None:
            values = [row["scores"][of] for row in rows if of in row["scores"]]
            # a score of no image is logged where a checkpoint may wait for it, and where other ranks may have images
            alone = self._trainer is not None and self.trainer.world_size == 1 and self.trainer.state.fn != "fit"
            if alone and not values:
                return
            metrics[key].accumulate(torch.tensor(values, dtype=torch.float64, device=self.device), names)
            self.log(f"{stage}/{key}", metrics[key], on_step=False, on_epoch=True, batch_size=len(rows))

        for key in self.fusion_scores if "fused" in output else ():
            record(key, key, batch["name"])
        for key in REGISTRATION_SCORES if "warp_a" in output else ():
            record(key, key)
        for side in ("a", "b"):
            for one in RESTORATION_SCORES if f"restored_{side}" in output else ():
                record(one.key.format(side), one.key.format(side))
            if f"restored_{side}" in output:
                record("PSNR_restored", f"PSNR_{side}")
        return rows

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the class in the checkpoint."""
        checkpoint["method"] = method_path(type(self))


def method_path(method: type[FusionMethod]) -> str:
    """The name of a class in a checkpoint: where to import it from; for this package's own not the file it lies in."""
    ours = method.__module__.startswith("fusion_lightning.")
    return f"fusion_lightning.methods.{method.__name__}" if ours else f"{method.__module__}.{method.__qualname__}"
