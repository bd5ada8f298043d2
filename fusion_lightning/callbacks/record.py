"""The configuration a run was started with, kept beside its checkpoints."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback


class RunRecord(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder and hands the same to the loggers: the only place that does.

    A run that is resumed or scored keeps its first ``config.yaml``; the later ones are ``config-2.yaml`` and so on.

    Args:
        parser: The parser of the command.
        config: What it parsed.
        folder: The run's folder.
        **kwargs: What `SaveConfigCallback` takes.
    """

    def __init__(self, parser: Any, config: Any, folder: str = ".", **kwargs: Any) -> None:
        super().__init__(parser, config, **kwargs)
        self.folder = Path(folder)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration; called on the first rank only, so nothing collective happens here."""
        text = self.parser.dump(self.config, skip_none=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        number, path = 1, self.folder / "config.yaml"
        while path.exists():
            number += 1
            path = self.folder / f"config-{number}.yaml"
        path.write_text(text)
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(text))
