"""LightningCLI with a folder per run and guards."""

import os
import re
import shlex
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from fusion_lightning.callbacks import (
    ConfigRecord,
    NonFiniteGuard,
    Previews,
    best_score,
)
from fusion_lightning.checkpoints import BestCheckpoint, RunCheckpoint, best_checkpoint
from fusion_lightning.cli.resumed import Resumed, read_resumed
from fusion_lightning.cli.trainer import (
    adapted,
    callbacks_of_every_run,
    check_trainer_options,
    chosen_callbacks,
    plugins_of_every_run,
)
from fusion_lightning.cli.words import stem_of_first_config, typed_arguments, with_options
from fusion_lightning.commands.devices import Precision, find_device, runs_in_bf16
from fusion_lightning.configuration import expand_home, one_sentence
from fusion_lightning.datamodules import FusionData, why_workers_ended
from fusion_lightning.errors import UserError, suggestion
from fusion_lightning.functions_cli import OneSentenceParser
from fusion_lightning.loggers import WandbRecord, make_loggers
from fusion_lightning.methods import FusionMethod, start_from
from fusion_lightning.methods.loading import known_methods
from fusion_lightning.runs import RunFolder, newest_checkpoint
from fusion_lightning.zoo import checkpoint_of


class _TrainerParser(OneSentenceParser, LightningArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """As of any command; a method that is not known is answered with the nearest ones."""
        if message.startswith('Parser key "model"'):
            names = [method.__name__ for method in known_methods().values()]
            message = re.sub(
                r"Expected a dot import path string: (\w+)$",
                lambda found: f"{found.group()}; {suggestion(found[1], names, 'methods')}",
                message,
                flags=re.MULTILINE,
            )
        super().error(message, ex)


class FusionCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict` for any `FusionMethod` on any `FusionData`.

    It adds to LightningCLI: a folder per run, loggers that need no account, and guards against mixing up
    checkpoints. ``--ckpt_path`` always means *the same run*: the method's hyper-parameters are taken from the
    checkpoint, but for those that are typed; the rest from the command line.
    """

    def __init__(self, args: list[str], typed: Sequence[str] = ()) -> None:
        self._command_line = list(typed or args)
        self._asked_experiment = stem_of_first_config(args)
        self._resumed: Resumed | None = None
        self._typed = typed_arguments(args)
        self._lock: IO[bytes] | None = None
        super().__init__(
            FusionMethod,
            FusionData,
            parser_class=_TrainerParser,
            parser_kwargs={"prog": "python -m fusion_lightning"},
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            # what every run shares; validation counts steps, not epochs; Lightning's summary is a table of zeros
            trainer_defaults={"check_val_every_n_epoch": None, "gradient_clip_val": 1.0, "enable_model_summary": False},
            auto_configure_optimizers=False,
            # hyper-parameters are saved as the plain values a constructor got, which `weights_only` can read
            load_from_checkpoint_support=False,
            save_config_callback=ConfigRecord,
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer commands; a checkpoint is always read with ``weights_only``, so that is no option."""
        return {name: skip | {"weights_only"} for name, skip in LightningCLI.subcommands().items() if name != "tune"}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """The parser of one verb; only `fit` begins anew, so only it has something to start from."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand in ("validate", "test"):
            parser.set_defaults(verbose=False)  # Lightning's table of 17 digits: `ScoreTable` prints the scores
        if subcommand == "fit":
            parser.add_argument(
                "--start_from",
                type=str | None,
                default=None,
                help="checkpoint or shipped model whose weights a new run begins with; its steps are not counted",
            )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where a run goes, and the settings of the callbacks every run has."""

        def build(method: type[FusionMethod], /, *arguments: Any, **configured: Any) -> FusionMethod:
            # what a checkpoint says goes to the constructor and never to the parser, which would look for classes in it
            return method(*arguments, **{**configured, **self._saved()})

        parser.add_instantiator(build, FusionMethod)
        parser.add_argument(
            "--experiment", type=str | None, default=None, help="folder of the run; default: config's name"
        )
        parser.add_argument(
            "--run_id", type=str | None, default=None, help="name of the run; default: the time it starts"
        )
        parser.add_argument(
            "--log_dir",
            type=str | None,
            default=None,
            help="where experiments go; default: logs, or where the run of --ckpt_path lies",
        )
        parser.add_argument(
            "--precision",
            type=Precision,
            default="fp32",
            help="number type, unless trainer.precision says; auto: bf16 where the device multiplies it",
        )
        parser.add_argument(
            "--log_checkpoints", type=bool, default=False, help="add the checkpoints to the W&B record as artifacts"
        )
        # two, because one with a monitor saves nothing before the first validation: a lost run would be lost whole
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.filename": "last", "checkpoint.enable_version_counter": False})
        parser.set_defaults({"best.filename": "best", "best.enable_version_counter": False})
        parser.add_lightning_class_args(Previews, "previews")
        parser.add_lightning_class_args(NonFiniteGuard, "faults")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without LightningCLI's warning about ``sys.argv``: our arguments are always explicit."""
        self.config = expand_home(parser.parse_args(args))

    def _parse_ckpt_path(self) -> None:
        """Take the method's hyper-parameters from the checkpoint, if it holds the class that is asked for.

        LightningCLI would build whatever class the checkpoint names. ``last`` and ``best`` are the run's own.
        """
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path") in ("last", "best"):
            config["ckpt_path"] = self._own_checkpoint(config)
        path = config.get("ckpt_path")
        if path is None:
            return
        config["ckpt_path"] = str(checkpoint_of(path))  # Lightning reads it, too
        self._resumed = read_resumed(path, config.model.class_path, config.model.get("init_args") or {}, self._typed)

    def _saved(self) -> dict[str, Any]:
        """The hyper-parameters that a checkpoint decides."""
        return {} if self._resumed is None else self._resumed.hyper_parameters

    def _own_checkpoint(self, config: Any) -> str | None:
        """The newest or the best checkpoint of the run that is named; `fit` begins a run that has none yet."""
        if config.run_id is None and not os.environ.get("WANDB_RUN_ID"):
            raise UserError(f"--ckpt_path {config.ckpt_path} needs --run_id, the name of the run that is meant")
        folder = self._choose_folder(config, None).checkpoints
        found = newest_checkpoint(folder) if config.ckpt_path == "last" else best_checkpoint(folder)
        if found is None and (self.config.subcommand != "fit" or config.ckpt_path == "best"):
            raise UserError(f"--ckpt_path {config.ckpt_path}: there is none in {folder}")
        return None if found is None else str(found)

    def _choose_folder(self, config: Any, checkpoint: str | None) -> RunFolder:
        return RunFolder.choose(
            root=config.log_dir,
            experiment=config.experiment,
            run_id=config.run_id,
            checkpoint=checkpoint,
            default=self._asked_experiment or _class_name(config).lower(),
        )

    def before_instantiate_classes(self) -> None:
        """Decide where the run goes, and in which number type."""
        config = self.config[self.subcommand]
        if isinstance(config.trainer, Namespace) and config.trainer.get("precision") is None:
            device = find_device("cpu" if config.trainer.get("accelerator") == "cpu" else "auto")
            config.trainer.precision = "bf16-mixed" if runs_in_bf16(config.precision, device) else None
        self.run = self._choose_folder(config, config.get("ckpt_path"))
        config.experiment = self.run.experiment  # so that the record alone repeats the run

    def instantiate_classes(self) -> None:
        """Build the method, the data and the trainer, or say which setting cannot be used."""
        try:
            super().instantiate_classes()
        except UserError:
            raise
        except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
            raise UserError(f"the configuration cannot be used: {one_sentence(str(error))}") from error

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"`seed_everything` cannot be used: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Point the callbacks at the run's folder and add the loggers, unless the user chose some."""
        self._check_before_anything_is_written()
        config = self._get(self.config_init, "trainer")
        config.callbacks = chosen_callbacks(config, str(self.subcommand))
        for name in ("checkpoint", "best"):
            self._get(self.config_init, name).dirpath = str(self.run.checkpoints)
        best = self._get(self.config_init, "best")
        best.save_top_k = 0 if best.monitor is None else best.save_top_k
        self._get(self.config_init, "previews").folder = str(self.run.pictures)
        self._get(self.config_init, "faults").folder = str(self.run.faults)
        self.save_config_kwargs = {
            "folder": str(self.run.path),
            "hyper_parameters": self._saved(),
            "save_to_log_dir": False,
        }
        chosen = config.get("logger") not in (None, True)
        if self.subcommand == "predict" and not chosen:
            kwargs["logger"] = False  # there is nothing to log
        elif not chosen and not config.get("fast_dev_run"):
            kwargs["logger"] = make_loggers(
                self.run.path,
                self.run.experiment,
                self.run.run_id,
                verb=str(self.subcommand),
                checkpoints=self._get(self.config_init, "log_checkpoints"),
            )
        if config.get("enable_checkpointing") is False:
            for name in ("checkpoint", "best"):
                self.config_init[self.subcommand][name] = Callback()
        self.trainer_defaults["callbacks"] = callbacks_of_every_run(config, self.run)
        config.plugins = plugins_of_every_run(config)
        return adapted(super().instantiate_trainer(**kwargs))

    def before_fit(self) -> None:
        """Refuse to overwrite a run, and begin its record."""
        checkpoint = self.config_init["fit"].get("ckpt_path")
        own = checkpoint is not None and Path(checkpoint).resolve().parent == self.run.checkpoints.resolve()
        if self.trainer.is_global_zero and not own:
            existing = newest_checkpoint(self.run.checkpoints)
            if existing is not None:
                raise UserError(
                    f"{self.run.path} holds a run already: go on with it by --ckpt_path {existing}, "
                    "or choose another --run_id"
                )
        started = self.config_init["fit"].get("start_from")
        if started is not None and checkpoint is None:
            start_from(self.model, started)
        self._begin()
        count = sum(one.numel() for one in self.model.parameters())
        learned = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        rank_zero_info(f"{type(self.model).__name__}: {count:,} parameters, {learned:,} of them trained")

    def after_fit(self) -> None:
        """Say where the run lies, how good it became, and what comes next."""
        if not self.trainer.is_global_zero or newest_checkpoint(self.run.checkpoints) is None:
            return
        best = best_checkpoint(self.run.checkpoints)
        score = f", {best_score(self.trainer)}" if best is not None and best_score(self.trainer) else ""
        print(f"the run lies in {self.run.path}{score}")
        options = {"--run_id": self.run.run_id, "--ckpt_path": "last" if best is None else "best"}
        print(
            f"next: python -m fusion_lightning {shlex.join(['test', *with_options(self._command_line[1:], options)])}"
        )

    before_validate = before_test = before_predict = lambda self: self._begin()

    def _begin(self) -> None:
        if self.trainer.is_global_zero:
            self.datamodule.prepare_data()  # looks at the data before there is a record of the run
            self.run.make()
            if self.subcommand == "fit" and self._lock is None:
                self._lock = self.run.lock()
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbRecord):
                logger.begin()

    def _check_before_anything_is_written(self) -> None:
        config = self.config[self.subcommand]
        check_trainer_options(config.trainer)
        if self._resumed is not None:
            self._resumed.check(self.model)
            self._resumed = self._resumed._replace(weights={})  # the Trainer reads them itself
        learned = any(parameter.requires_grad for parameter in self.model.parameters())
        if self.subcommand == "fit" and not self.model.learns():
            raise UserError(f"{_class_name(config)} has nothing to train: run it with `test` or `predict`")
        if self.subcommand == "fit" and learned:
            self.model.configure_optimizers()  # refuses options that an optimizer cannot use
        if self.subcommand != "fit" and learned and config.get("ckpt_path") is None:
            raise UserError(f"`{self.subcommand}` needs --ckpt_path: {_class_name(config)} has to be trained first")
        self.datamodule.setup(self.subcommand)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb, or say that the checkpoint cannot be taken up."""
        try:
            super()._run_subcommand(subcommand)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            if str(error).startswith("DataLoader worker"):
                raise UserError(why_workers_ended(str(error))) from error
            if _passed(error, "setup_data"):  # of the Trainer, which compares its limits with the number of batches
                raise UserError(f"the configuration cannot be used: {one_sentence(str(error))}") from error
            if not _passed(error, "resume_start", "restore_model", "restore_callbacks", "restore_training_state"):
                raise
            path = self.config[subcommand].ckpt_path
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path} cannot be taken up: it lacks what `{subcommand}` needs of a checkpoint, or a part is damaged "
                f"({type(error).__name__}: {reason})"
            ) from error

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}


def _passed(error: Exception, *functions: str) -> bool:
    """Whether an error came through one of these functions."""
    return any(frame.name in functions for frame in traceback.extract_tb(error.__traceback__))


def _class_name(config: Any) -> str:
    name: str = config.model.class_path
    return name.rsplit(".", 1)[-1]
