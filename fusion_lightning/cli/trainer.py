"""What the Trainer of every run has beside what its configuration asks for: callbacks, plugins, loops."""

import os
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, WeightAveraging
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities import rank_zero_info

from fusion_lightning.callbacks import (
    ConfiguredOptimization,
    PredictionWriter,
    RunProgress,
    ScoreTable,
    SignalCheckpoint,
    StopOnSignal,
)
from fusion_lightning.checkpoints import AtomicCheckpointIO
from fusion_lightning.errors import UserError
from fusion_lightning.loops import ResumableEpochs
from fusion_lightning.runs import RunFolder


def check_trainer_options(options: Any) -> None:
    """Refuse what the Trainer would take and then fail at.

    Raises:
        UserError: If the options are no mapping, or a number of steps is not above 0.
    """
    if not isinstance(options, Namespace):
        raise UserError(f"`trainer` must be a mapping of options, but got {options!r}")
    for name in ("accumulate_grad_batches", "val_check_interval", "log_every_n_steps"):
        value = options.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise UserError(f"`trainer.{name}` must be above 0, but got {value}")


def chosen_callbacks(options: Namespace, verb: str) -> list[Callback]:
    """The callbacks that the configuration asks for, those that average weights only while there is training.

    Raises:
        UserError: If weights that are sharded are to be averaged.
    """
    chosen = _as_list(options.callbacks)
    others = [one for one in chosen if not isinstance(one, WeightAveraging)]
    if verb != "fit":
        return others  # the checkpoint holds the averaged weights
    if len(others) < len(chosen) and _shards_weights(options.get("strategy")):
        raise UserError(
            "weights that are sharded (fsdp) cannot be averaged: add --trainer.callbacks null, "
            "or take ddp, which these networks fit (docs/distributed.md)"
        )
    return chosen


def callbacks_of_every_run(options: Namespace, run: RunFolder) -> list[Callback]:
    """What writes scores and predictions, optimizes as configured, saves at a signal, and shows progress."""
    saves = not options.get("fast_dev_run") and options.get("enable_checkpointing") is not False
    kept: list[Callback] = [
        ScoreTable(str(run.path)),
        PredictionWriter(str(run.predictions)),
        ConfiguredOptimization(),
        SignalCheckpoint(str(run.checkpoints)) if saves else StopOnSignal(),
    ]
    own_bar = any(isinstance(one, ProgressBar) for one in _as_list(options.callbacks))
    if options.get("enable_progress_bar") is not False and not own_bar:
        kept.append(RunProgress())
    return kept


def plugins_of_every_run(options: Namespace) -> list[Any]:
    """The configuration's plugins, whole checkpoints, and a single process in a shell inside a SLURM job."""
    plugins = [*_as_list(options.get("plugins")), AtomicCheckpointIO()]
    chosen_environment = any(isinstance(one, ClusterEnvironment) for one in plugins)
    if not chosen_environment and _is_shell_inside_slurm():
        rank_zero_info("this is no step of `srun`, so the run has one process: begin it with `srun` to have more")
        plugins.append(LightningEnvironment())
    return plugins


def adapted(trainer: Trainer) -> Trainer:
    """The Trainer with epochs that can be resumed, and batches that stay in full precision."""
    trainer.fit_loop = ResumableEpochs(trainer.fit_loop)
    if isinstance(trainer.precision_plugin, HalfPrecision):
        # the method brings to half precision what its networks compute with, and no reference of a score
        trainer.precision_plugin.convert_input = _as_it_is  # type: ignore[method-assign]
    return trainer


def _is_shell_inside_slurm() -> bool:
    """Whether this is a process of a batch system's job that its `srun` has not started."""
    return SLURMEnvironment.detect() and "SLURM_STEP_ID" not in os.environ


def _as_it_is(data: Any) -> Any:
    return data


def _shards_weights(strategy: Any) -> bool:
    return "fsdp" in strategy if isinstance(strategy, str) else isinstance(strategy, FSDPStrategy)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
