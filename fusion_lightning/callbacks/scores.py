"""Score table: one row per test image."""

import csv
import io
import itertools
import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch.distributed import all_gather_object

from fusion_lightning.batch import FusionBatch
from fusion_lightning.files import unused_name, write_atomic
from fusion_lightning.scoring import ScoreRow, StepOutput


class ScoreTable(Callback):
    """Prints the mean scores of a validation or test; a test's rows go to ``scores.csv`` and a table in W&B.

    There is a row per image and a final ``mean`` row. Columns are ``name``, ``scenario`` (what was done to the sources)
    and one per score. An undefined score is ``nan`` in its row and left out of the mean.

    Args:
        folder: Where ``scores.csv`` goes; an earlier one is kept as ``scores-2.csv`` and so on.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.rows: list[ScoreRow] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the means of ``validate``; in a training, progress says the one that counts."""
        if trainer.state.fn == TrainerFn.VALIDATING and trainer.is_global_zero:
            _print_means(trainer, "val/")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an empty table."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: StepOutput,  # type: ignore[override]
        batch: FusionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the rows of one batch."""
        self.rows.extend(outputs["rows"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the rows of all processes, to which the images were dealt out in turn."""
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            all_gather_object(gathered, self.rows)
            turns = itertools.zip_longest(*gathered)
            self.rows = [row for turn in turns for row in turn if row is not None]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table, on the first rank only."""
        if not trainer.is_global_zero or not self.rows:
            return
        table = score_table(self.rows)
        path = Path(self.folder) / "scores.csv"
        text = io.StringIO(newline="")
        csv.writer(text).writerows(table)
        if path.exists():
            path.rename(unused_name(path))
        write_atomic(path, text.getvalue())
        _print_means(trainer, "test/")
        print(f"scores written to {path}")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("test/scores", columns=table[0], data=table[1:-1])


def _print_means(trainer: Trainer, prefix: str) -> None:
    means = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}
    width = max(map(len, means), default=0)
    for name, value in means.items():
        print(f"{name:<{width}}  {value:.4f}")


def score_table(rows: list[ScoreRow]) -> list[list[Any]]:
    """Header, one row per image, and the mean over the images where a score is defined."""
    keys = list(dict.fromkeys(key for row in rows for key in row["scores"]))
    table: list[list[Any]] = [["name", "scenario", *keys]]
    for row in rows:
        table.append([row["name"], row["scenario"], *(row["scores"].get(key, float("nan")) for key in keys)])
    means = []
    for key in keys:
        values = [row["scores"][key] for row in rows if not math.isnan(row["scores"].get(key, math.nan))]
        means.append(sum(values) / len(values) if values else float("nan"))
    return [*table, ["mean", "", *means]]
