"""The command line behind the front door: LightningCLI for the trainer's verbs, plain functions for the rest."""

import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from fusion_lightning.callbacks import PredictionWriter, Previews, RunRecord, ScoreTable
from fusion_lightning.configuration import explain, resolve_config_names
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod, read_checkpoint
from fusion_lightning.runs import RunFolder, make_loggers


def run_trainer_command(args: Sequence[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` with the arguments that follow it."""
    _quieten()
    finished = False
    try:
        FusionCLI(resolve_config_names(args))
        finished = True
    finally:
        _finish_record(failed=not finished)


def run_other_command(args: Sequence[str]) -> None:
    """Run the function of the same name in ``fusion_lightning.commands``, its arguments as options."""
    command, *rest = args
    # the demo uses this command line itself, so it lies above it
    module = "fusion_lightning.demo" if command == "demo" else f"fusion_lightning.commands.{command}"
    function = getattr(importlib.import_module(module), command)
    parser = _PlainParser(prog=f"python -m fusion_lightning {command}")
    parser.add_argument("--config", action="config", help="a YAML file with values for these options")
    parser.add_function_arguments(function, as_group=False)
    values = parser.parse_args(_gather_lists(function, resolve_config_names(rest)))
    values.pop("config", None)
    function(**parser.instantiate_classes(values))


def _gather_lists(function: Callable[..., None], args: Sequence[str]) -> list[str]:
    """Rewrite what people type into what the parser reads.

    ``--source-a`` becomes ``--source_a``, a lone flag ``true``, and the values of an option that takes a list,
    ``--fused A B --fused C``, one JSON list.
    """
    options: dict[str, list[str]] = {}
    values = options.setdefault("", [])
    for argument in args:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            values = options.setdefault(name.replace("-", "_").replace("__", "--", 1), [])
            values.extend([value] if equals else [])
        else:
            values.append(argument)
    hints = get_type_hints(function)
    gathered = options.pop("")
    for name, values in options.items():
        hint = hints.get(name.removeprefix("--"))
        if list in (get_origin(hint), *map(get_origin, get_args(hint))):
            gathered += [f"{name}={json.dumps(values)}"]
        elif not values and hint is bool:
            gathered += [f"{name}=true"]
        else:
            gathered += [f"{name}={value}" for value in values] or [name]
    return gathered


class _OneSentence(ArgumentParser):
    """Says what is wrong with the arguments in one sentence instead of with a page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a parser of a class within: what is around it will say where it happened
            super().error(message, ex)
        sys.stderr.write(f"error: {explain(message)}\n")
        sys.exit(2)


class _PlainParser(_OneSentence):
    pass


class _TrainerParser(_OneSentence, LightningArgumentParser):
    pass


class FusionCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict` for any `FusionMethod` on any `FusionData`.

    It adds to LightningCLI: a folder per run, loggers that need no account, and guards against mixing up
    checkpoints. ``--ckpt_path`` always means *the same run*: the method's hyper-parameters are taken from the
    checkpoint, the rest from the command line.
    """

    def __init__(self, args: list[str]) -> None:
        self._asked_experiment = _stem_of_first_config(args)
        super().__init__(
            FusionMethod,
            FusionData,
            parser_class=_TrainerParser,
            parser_kwargs={"prog": "python -m fusion_lightning"},
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # hyper-parameters are saved as the plain values a constructor got, which `weights_only` can read
            load_from_checkpoint_support=False,
            save_config_callback=RunRecord,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's verbs; a checkpoint is always read with ``weights_only``, so that is no option."""
        return {name: skip | {"weights_only"} for name, skip in LightningCLI.subcommands().items() if name != "tune"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where a run goes, and the settings of the callbacks every run has."""
        parser.add_argument(
            "--experiment", type=str | None, default=None, help="folder of the run; default: config's name"
        )
        parser.add_argument(
            "--run_id", type=str | None, default=None, help="name of the run; default: the time it starts"
        )
        parser.add_argument("--log_dir", type=str, default="logs", help="where experiments go")
        # two, because one with a monitor saves nothing before the first validation: a lost run would be lost whole
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "best")
        parser.set_defaults({"checkpoint.filename": "last", "checkpoint.enable_version_counter": False})
        parser.set_defaults({"best.filename": "best", "best.enable_version_counter": False})
        parser.add_lightning_class_args(Previews, "previews")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without LightningCLI's warning about ``sys.argv``: our arguments are always explicit."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Take the method's hyper-parameters from the checkpoint, if it holds the class that is asked for.

        LightningCLI would build whatever class the checkpoint names.
        """
        config = self.config[self.config.subcommand]
        path = config.get("ckpt_path")
        if path is None or path in ("last", "best", "hpc", "registry"):
            return
        checkpoint = read_checkpoint(path)
        asked = _class_name(config)
        if checkpoint["method"] != asked:
            raise UserError(
                f"--ckpt_path {path} holds a {checkpoint['method']}, but the configuration asks for {asked}: "
                "--ckpt_path continues or scores the same run; other weights are a constructor argument"
            )
        for key, value in checkpoint["hyper_parameters"].items():
            config.model.init_args[key] = value

    def before_instantiate_classes(self) -> None:
        """Decide where the run goes and refuse to score weights that were never trained."""
        config = self.config[self.subcommand]
        self.run = RunFolder.choose(
            root=config.log_dir,
            experiment=config.experiment or self._asked_experiment or _class_name(config).lower(),
            run_id=config.run_id,
            checkpoint=config.get("ckpt_path"),
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Point the callbacks at the run's folder and add the loggers, unless the user chose some."""
        self._check_before_anything_is_written()
        config = self._get(self.config_init, "trainer")
        if self.subcommand != "fit":
            # averaging weights is done when training is; the checkpoint holds the averaged ones
            config.callbacks = [one for one in config.callbacks or [] if not isinstance(one, WeightAveraging)]
        for name in ("checkpoint", "best"):
            self._get(self.config_init, name).dirpath = str(self.run.checkpoints)
        best = self._get(self.config_init, "best")
        best.save_top_k = 0 if best.monitor is None else best.save_top_k
        self._get(self.config_init, "previews").folder = str(self.run.pictures)
        self.save_config_kwargs = {"folder": str(self.run.path), "save_to_log_dir": False}
        chosen = config.get("logger") not in (None, True)
        if self.subcommand == "predict" and not chosen:
            kwargs["logger"] = False  # there is nothing to log
        elif not chosen and not config.get("fast_dev_run"):
            kwargs["logger"] = make_loggers(self.run, verb=str(self.subcommand))
        written: list[Callback] = [ScoreTable(str(self.run.path)), PredictionWriter(str(self.run.predictions))]
        self.trainer_defaults["callbacks"] = written
        return super().instantiate_trainer(**kwargs)

    def _check_before_anything_is_written(self) -> None:
        config = self.config[self.subcommand]
        learned = any(parameter.requires_grad for parameter in self.model.parameters())
        if self.subcommand != "fit" and learned and config.get("ckpt_path") is None:
            raise UserError(f"`{self.subcommand}` needs --ckpt_path: {_class_name(config)} has to be trained first")
        self.datamodule.setup(self.subcommand)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}


def _class_name(config: Any) -> str:
    name: str = config.model.class_path
    return name.rsplit(".", 1)[-1]


def _stem_of_first_config(args: Sequence[str]) -> str | None:
    for index, argument in enumerate(args):
        name, _, value = argument.partition("=")
        if name in ("-c", "--config"):
            return Path(value or args[index + 1]).stem if value or index + 1 < len(args) else None
    return None


def _quieten() -> None:
    """Keep advertisements and the GPU/TPU inventory out of the log."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not any(word in record.getMessage() for word in ("litlogger", "GPU available", "TPU"))
    )
    os.environ.setdefault("WANDB_SILENT", "true")
    for message in (
        ".*LeafSpec.*",  # between torch and Lightning
        ".*bf16-mixed is not supported by the model summary.*",
        ".*callbacks used to create the checkpoint need to be provided.*",  # we leave weight averaging out on purpose
        ".*exists and is not empty.*",  # a resumed run goes on in its own folder
        ".*does not have many workers.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings(
        "ignore", category=DeprecationWarning, module="lightning.*|fusion_lightning.*|jsonargparse.*"
    )


def _finish_record(failed: bool) -> None:
    """Close the W&B run, so that its file is complete and the next run in this process has its own."""
    if "wandb" in sys.modules:
        wandb = sys.modules["wandb"]
        if wandb.run is not None:
            wandb.finish(exit_code=int(failed))
