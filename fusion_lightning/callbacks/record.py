"""Records the configuration of a run beside its checkpoints."""

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

import fusion_lightning
from fusion_lightning.files import unused_name, write_atomic


class ConfigRecord(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder and hands the same to the loggers: the only place that does.

    A run that is resumed or scored keeps its first ``config.yaml``; the later ones are ``config-2.yaml`` and so on.
    The version of the code stands in the file's first line and in the loggers' ``code``.

    Args:
        parser: The parser of the command.
        config: What it parsed.
        folder: The run's folder.
        hyper_parameters: What the method got from a checkpoint, in place of what was parsed.
        **kwargs: What `SaveConfigCallback` takes.
    """

    def __init__(
        self,
        parser: Any,
        config: Any,
        folder: str = ".",
        hyper_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(parser, config, **kwargs)
        self.folder = Path(folder)
        self.hyper_parameters = hyper_parameters or {}

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration; called on the first rank only, so nothing collective happens here."""
        config, code = yaml.safe_load(self.parser.dump(self.config, skip_none=False)), code_version()
        # not through the parser, which would look for the classes that a checkpoint may name
        config["model"].setdefault("init_args", {}).update(_plain(self.hyper_parameters))
        if stage == "fit":
            config["run_id"] = None  # repeated, it is another run; which this was is the folder's name
        versions = ", ".join(f"{name} {version}" for name, version in code.items())
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_atomic(unused_name(self.folder / "config.yaml"), f"# {versions}\n{text}")
        for logger in trainer.loggers:
            logger.log_hyperparams({**config, "code": code, "devices": trainer.num_devices, "nodes": trainer.num_nodes})


def _plain(value: Any) -> Any:
    """Hyper-parameters as YAML writes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or type(value) in (str, int, float, bool) else str(value)


def code_version() -> dict[str, str]:
    """The versions that a number may depend on, and the commit of a checkout, marked if files differ from it."""
    versions = {
        "fusion_lightning": fusion_lightning.__version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    checkout = Path(fusion_lightning.__file__).parents[1]
    commit = _git(checkout, "rev-parse", "HEAD") if (checkout / ".git").exists() else ""
    if commit:
        versions["commit"] = commit + (" with changes" if _git(checkout, "status", "--porcelain") else "")
    return versions


def _git(folder: Path, *arguments: str) -> str:
    """What git says; nothing if it is not installed or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
