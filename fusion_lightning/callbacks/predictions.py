"""Writes predicted images to disk."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from fusion_lightning.batch import FusionBatch, FusionOutput, pictures
from fusion_lightning.callbacks.folders import shared_folder
from fusion_lightning.errors import UserError
from fusion_lightning.files import remove_unfinished
from fusion_lightning.imaging.convert import to_image
from fusion_lightning.imaging.io import write_image


class PredictionWriter(Callback):
    """Writer of the images of `predict`: ``<folder>/<part>/<name>.png`` for the fusion and the restored sources.

    Args:
        folder: Where the folders ``fused``, ``restored_a`` and ``restored_b`` go.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Share the folder among processes."""
        self.folder = shared_folder(trainer, self.folder)
        root = getattr(getattr(trainer, "datamodule", None), "root", None)
        if stage == "predict" and root is not None:
            if Path(root).expanduser().resolve().is_relative_to(Path(self.folder).resolve()):
                raise UserError(f"`data.root` {root} lies where the predictions go: choose another --run_id")
            if trainer.is_global_zero:
                remove_unfinished(Path(self.folder))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: FusionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the images of one batch."""
        write_output(outputs, batch["name"], Path(self.folder))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the images are."""
        if trainer.is_global_zero:
            print(f"images written to {self.folder}")


def write_output(output: FusionOutput, names: list[str], folder: Path) -> None:
    """Write a batch of results as ``<folder>/<part>/<name>.png``."""
    for part, images in pictures(output).items():
        for name, image in zip(names, images, strict=True):
            write_image(folder / part / f"{name}.png", to_image(image))
