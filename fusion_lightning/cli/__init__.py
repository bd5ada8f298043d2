"""The Trainer commands `fit`, `validate`, `test` and `predict`."""

import logging
import multiprocessing
import os
import warnings
from collections.abc import Sequence

from fusion_lightning.cli.fusion import FusionCLI
from fusion_lightning.configuration import resolve_config_names
from fusion_lightning.loggers import finish_record

__all__ = ["FusionCLI", "run_trainer_command"]


def run_trainer_command(args: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` with the arguments that follow it."""
    _quieten()
    finished = False
    try:
        FusionCLI(resolve_config_names(args), typed=args)
        finished = True
    finally:
        finish_record(failed=not finished)
        for worker in multiprocessing.active_children():  # one that waits for something does not end by itself
            worker.kill()


def _quieten() -> None:
    """Silence advertisements, the GPU/TPU inventory and warnings that concern no user."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(word in record.getMessage() for word in ("litlogger", "GPU available", "TPU"))
    )
    os.environ.setdefault("WANDB_SILENT", "true")
    for message in (
        ".*LeafSpec.*",  # between torch and Lightning
        ".*overridden `on_after_batch_transfer`.*",  # the data module has none of its own
        ".*bf16-mixed is not supported by the model summary.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # we leave weight averaging out on purpose
        ".*exists and is not empty.*",  # a resumed run goes on in its own folder
        ".*does not have many workers.*",
        "Grad strides do not match bucket view strides.*",  # of 1x1 convolutions: both strides mean the same memory
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module="lightning.*|fusion_lightning.*|jsonargparse.*"
    )
