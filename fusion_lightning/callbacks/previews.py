"""Preview contact sheets at every validation and test."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.io import write_image
from fusion_lightning.methods import FusionMethod
from fusion_lightning.scoring import StepOutput

_PARTS = ("restored_a", "restored_b", "weight", "fused")


class Previews(Callback):
    """Draws the first validation or test pairs as a contact sheet: sources, restored sources and the fusion.

    Sheets go to ``<folder>/val-previews-step<N>.png`` (``test-previews.png``) and to W&B as ``val/previews``;
    methods that go step by step add ``val/trajectory`` (`FusionMethod.trajectory_sheet`).

    Args:
        count: How many pairs are drawn; 0 draws none.
        width: Width of a picture in pixels.
        folder: Where sheets are written; None logs them only.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(self, count: int = 4, width: int = 256, folder: str | None = None) -> None:
        if count < 0 or width < 1:
            raise UserError(f"`previews` needs a count from 0 and a width from 1 upwards, but got {count} and {width}")
        self.count = count
        self.width = width
        self.folder = folder
        self._rows: list[list[Tensor]] = []
        self._labels: list[str] = []
        self._first: FusionBatch | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: StepOutput,  # type: ignore[override]
        batch: FusionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first pairs."""
        self._collect(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: StepOutput,  # type: ignore[override]
        batch: FusionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first pairs."""
        self._collect(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the sheets."""
        self._draw("val", trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the sheets."""
        self._draw("test", trainer, pl_module)

    def _collect(self, outputs: StepOutput, batch: FusionBatch) -> None:
        parts = [part for part in _PARTS if part in outputs["output"]]
        for index in range(min(len(batch["name"]), self.count - len(self._rows))):
            pictures = [batch["source_a"][index], batch["source_b"][index]]
            pictures += [outputs["output"][part][index] for part in parts]  # type: ignore[literal-required]
            self._rows.append([picture.detach().float().cpu() for picture in pictures])
        self._labels = ["source a", "source b", *(part.replace("_", " ") for part in parts)]
        self._first = self._first or batch

    def _draw(self, stage: str, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rows and trainer.is_global_zero and not trainer.sanity_checking:
            self._publish(f"{stage}/previews", contact_sheet(self._rows, self._labels, self.width), trainer)
            sheet = None
            if isinstance(pl_module, FusionMethod) and self._first is not None:
                sheet = pl_module.trajectory_sheet(self._first)
            if sheet is not None:
                rows, labels = sheet
                self._publish(f"{stage}/trajectory", contact_sheet(rows, labels, self.width), trainer)
        self._rows, self._first = [], None

    def _publish(self, key: str, sheet: np.ndarray, trainer: Trainer) -> None:
        if self.folder is not None:
            step = "" if trainer.testing else f"-step{trainer.global_step:06d}"
            write_image(Path(self.folder) / f"{key.replace('/', '-')}{step}.png", sheet)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(key, [sheet], step=None)
