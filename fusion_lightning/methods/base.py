"""What every fusion method shares: its scores, its optimizer, and how it is asked to fuse."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NotRequired, Self, TypedDict, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.metrics import FusionMetric, RestorationPSNR, RestorationSSIM, fusion_metrics, to_levels
from fusion_lightning.metrics.functional import psnr_to, ssim_to

CLED_METRICS = ("MI", "VIF", "Qabf", "Nabf", "SSIM")
"""The five scores of CLED-Fusion's tables."""


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam at 1e-4: what a method trains with when nothing else is configured."""
    return torch.optim.Adam(parameters, lr=1e-4)


@dataclass(frozen=True)
class Controls:
    """The knobs a user may turn when fusing, without training anything again.

    Attributes:
        strength_a: How much of the estimated degradation of source a is removed: 0 keeps it, 1 removes it.
        strength_b: The same for source b.
        balance: Which modality the fusion leans to: 0 is source a, 1 is source b, 0.5 is as trained.
    """

    strength_a: float = 1.0
    strength_b: float = 1.0
    balance: float = 0.5

    def __post_init__(self) -> None:
        for name in ("strength_a", "strength_b"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"`{name}` must be a finite number of at least 0, but got {getattr(self, name)}")
        if not 0 <= self.balance <= 1:
            raise UserError(f"`balance` must be between 0 (source a) and 1 (source b), but got {self.balance}")


class FusionOutput(TypedDict):
    """What a method makes of a batch: tensors (B, C, H, W) in [0, 1]; a method fills in what it produces."""

    fused: NotRequired[Tensor]
    restored_a: NotRequired[Tensor]
    restored_b: NotRequired[Tensor]
    weight: NotRequired[Tensor]
    """How much of source a the fusion takes at each pixel, (B, 1, H, W)."""


class ScoreRow(TypedDict):
    """Scores of one image: what a row of the score table holds."""

    name: str
    scenario: str
    scores: dict[str, float]


class StepOutput(TypedDict):
    """What a validation or test step hands to the callbacks."""

    output: FusionOutput
    rows: list[ScoreRow]


class FusionMethod(LightningModule):
    """Base of all methods: subclasses implement `fuse` and, if they learn, `training_step`.

    Validation and test score what `fuse` returns: the fusion with the fusion metrics, the restored sources by PSNR and
    SSIM against the clean ones. Keys are ``<stage>/<metric>``, restored sources ``<stage>/PSNR_a`` and so on, the
    delivered ones ``<stage>/PSNR_a_in`` to compare with, and ``<stage>/PSNR_restored`` is the mean over both. They
    count the sources that something was done to.

    Args:
        optimizer: Makes the optimizer from the trainable parameters.
        scheduler: Makes the learning-rate scheduler from the optimizer; stepped once per training step.
        metrics: Names of the fusion metrics to log.
        score_against: Score the fusion against the clean sources where they are known (``clean``), as tables
            under degradation do, or against what the sensors gave (``delivered``).

    Raises:
        UserError: If a metric's name is unknown.
    """

    knows_degradation: ClassVar[bool] = False
    """Whether `fuse` makes use of the batch's `degradation`."""

    HPARAMS_NOT_SAVED = ("optimizer", "scheduler")
    """Constructor arguments that do not go into checkpoints: callables, not needed to rebuild the method."""

    def __init__(
        self,
        optimizer: OptimizerCallable = adam,
        scheduler: LRSchedulerCallable | None = None,
        metrics: Sequence[str] = CLED_METRICS,
        score_against: Literal["clean", "delivered"] = "clean",
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.score_against = score_against
        self.fusion_scores = tuple(metrics)
        self.scores = nn.ModuleDict({stage: _scores(metrics) for stage in ("val", "test")})

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Fuse a batch of sources (B, 1 or 3, H, W) in [0, 1] of any size.

        Args:
            batch: The sources; only `source_a`, `source_b` and `degradation` are looked at.
            controls: The user's knobs; None leaves the method as trained.

        Raises:
            UserError: If the method has no such controls.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it fuses")

    def check_no_controls(self, controls: Controls | None) -> None:
        """Refuse knobs that the method does not have.

        Raises:
            UserError: If any control differs from its neutral value.
        """
        if controls not in (None, Controls()):
            raise UserError(f"{type(self).__name__} has no strength or balance controls: leave them at their defaults")

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a part with nothing but frozen parameters stays in evaluation."""
        super().train(mode)
        for part in self.children():
            learns = [parameter.requires_grad for parameter in part.parameters()]
            if learns and not any(learns):
                part.eval()
        return self

    def setup(self, stage: str) -> None:
        """Lay convolution weights out channels-last, which every backend runs at least as fast."""
        self.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> Any:
        """Optimize what is not frozen; a scheduler counts steps, not epochs.

        Raises:
            UserError: If the optimizer refuses its options.
        """
        try:
            optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        except (TypeError, ValueError) as error:
            raise UserError(f"`optimizer` cannot be used: {error}") from error
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}

    def validation_step(self, batch: FusionBatch, batch_idx: int) -> StepOutput:
        """Fuse and score a validation batch."""
        return self._score("val", batch)

    def test_step(self, batch: FusionBatch, batch_idx: int) -> StepOutput:
        """Fuse and score a test batch."""
        return self._score("test", batch)

    def predict_step(self, batch: FusionBatch, batch_idx: int) -> FusionOutput:
        """Fuse a batch."""
        return self.fuse(batch)

    def log_losses(self, losses: Mapping[str, Tensor], batch: FusionBatch) -> Tensor:
        """Log the named parts of a loss as ``train/<name>`` and return the part called ``loss``."""
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in losses.items()},
            batch_size=len(batch["name"]),
            sync_dist=True,
        )
        return losses["loss"]

    def _score(self, stage: str, batch: FusionBatch) -> StepOutput:
        output = self.fuse(batch)
        # mixed precision is for networks: a metric in bfloat16 is a wrong number
        with torch.autocast(self.device.type, enabled=False):
            return StepOutput(output=output, rows=self._rows(stage, batch, output))

    def _rows(self, stage: str, batch: FusionBatch, output: FusionOutput) -> list[ScoreRow]:
        metrics = cast(Mapping[str, FusionMetric], self.scores[stage])
        fusion = {key: metrics[key] for key in self.fusion_scores}
        rows = score_images(batch, output, fusion, self.score_against)

        def record(key: str, of: str, names: Sequence[str] | None = None) -> None:
            # a score of no image is still logged: under DDP every rank has to log the same keys
            values = [row["scores"][of] for row in rows if of in row["scores"]]
            metrics[key].accumulate(torch.tensor(values, dtype=torch.float64, device=self.device), names)
            self.log(f"{stage}/{key}", metrics[key], on_step=False, on_epoch=True, batch_size=len(rows))

        for key in self.fusion_scores if "fused" in output else ():
            record(key, key, batch["name"])
        for side in ("a", "b"):
            for key in RESTORATION_SCORES if f"restored_{side}" in output else ():
                record(key.format(side), key.format(side))
            if f"restored_{side}" in output:
                record("PSNR_restored", f"PSNR_{side}")
        return rows

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down which class the checkpoint belongs to."""
        checkpoint["method"] = type(self).__name__


RESTORATION_SCORES = ("PSNR_{}_in", "PSNR_{}", "SSIM_{}_in", "SSIM_{}")
"""Scores of a source, a or b, as it was delivered (``in``) and as it was restored, against the clean one."""


def _scores(metrics: Sequence[str]) -> nn.ModuleDict:
    """The means of a stage: of the fusion metrics, and of the restored and the delivered sources' PSNR and SSIM."""
    means: dict[str, nn.Module] = dict(fusion_metrics(metrics, prefix="").items())
    for key in (key.format(side) for side in ("a", "b") for key in RESTORATION_SCORES):
        means[key] = RestorationPSNR() if key.startswith("PSNR") else RestorationSSIM()
    return nn.ModuleDict({**means, "PSNR_restored": RestorationPSNR()})


def score_images(
    batch: FusionBatch,
    output: FusionOutput,
    metrics: Mapping[str, FusionMetric],
    score_against: Literal["clean", "delivered"] = "clean",
) -> list[ScoreRow]:
    """Score every image of a batch: the fusion by `metrics`, restored sources by `RESTORATION_SCORES`.

    A source that nothing was done to has no restoration scores: the PSNR of what was delivered is infinite there.
    """
    rows = [
        ScoreRow(name=name, scenario=degradation["scenario"], scores={})
        for name, degradation in zip(batch["name"], batch["degradation"], strict=True)
    ]
    if "fused" in output:
        kind = "clean" if score_against == "clean" else "source"
        references = same_size(batch[f"{kind}_a"], batch[f"{kind}_b"])  # type: ignore[literal-required]
        levels = to_levels(output["fused"], *references)
        for key, metric in metrics.items():
            for row, value in zip(rows, metric.on_levels(levels).tolist(), strict=True):
                row["scores"][key] = value
    for side in ("a", "b"):
        if f"restored_{side}" not in output:
            continue
        clean: Tensor = batch[f"clean_{side}"]  # type: ignore[literal-required]
        delivered = same_size(batch[f"source_{side}"], clean)[0]  # type: ignore[literal-required]
        restored: Tensor = output[f"restored_{side}"]  # type: ignore[literal-required]
        degraded = (delivered != clean).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        for key in RESTORATION_SCORES if degraded else ():
            score = psnr_to if key.startswith("PSNR") else ssim_to
            image = delivered if key.endswith("in") else restored
            for index, value in zip(degraded, score(image[degraded], clean[degraded]).tolist(), strict=True):
                rows[index]["scores"][key.format(side)] = value
    return rows


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Enlarge the image of lower resolution (bicubic) to the size of the other; (B, C, H, W) in [0, 1]."""
    height, width = max(a.shape[-2], b.shape[-2]), max(a.shape[-1], b.shape[-1])

    def enlarged(image: Tensor) -> Tensor:
        if image.shape[-2:] == (height, width):
            return image
        return F.interpolate(image, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)

    return enlarged(a), enlarged(b)
