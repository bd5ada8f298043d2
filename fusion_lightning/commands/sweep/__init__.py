"""Hyper-parameter search on this machine, from a W&B sweep file and without an account."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_lightning.commands.sweep.file import SweepFile, read_sweep
from fusion_lightning.commands.sweep.locks import check_locks, one_at_a_time
from fusion_lightning.commands.sweep.results import ended_trials, plot_trials, print_best, write_trials
from fusion_lightning.commands.sweep.study import (
    ask,
    give_up,
    open_study,
    take_over,
    take_up_interrupted,
    trials_wait,
    tried,
)
from fusion_lightning.commands.sweep.trial import StopRequest, run_trial
from fusion_lightning.errors import UserError
from fusion_lightning.text import counted

if TYPE_CHECKING:
    from optuna import Study

_TRIALS = 20
_FAILURES = 3
"""As many trials that fail in a row are the sweep's fault."""


def sweep(config: str, trials: int | None = None, seed: int = 0, log_dir: str = "logs") -> None:
    """Run the trials of a W&B sweep one after the other, without W&B: Optuna chooses them.

    Everything is kept in ``LOG_DIR/sweeps/NAME``: the search itself, ``trials.csv``, and ``trials.png``, a picture of
    parallel coordinates; the runs are in ``LOG_DIR/NAME``. The same command goes on with a search that was
    interrupted, and with the trial it was at; started several times at once, it shares one search.

    Args:
        config: A file of `configs/sweeps`, or your own.
        trials: How many trials the search has when it is finished, earlier ones that ended counted in, and those that
            fail now; without it as many as the file's ``run_cap`` says, or 20.
        seed: Of the search.
        log_dir: Where the search and its runs go.

    Raises:
        UserError: If the file cannot be used, Optuna is not installed, the system has no file locks (Windows), all
            trials fail, or three in a row.
    """
    check_locks()
    if trials is not None and trials < 1:
        raise UserError(f"--trials must be at least 1, but got {trials}")
    try:
        import optuna
    except ImportError as error:
        raise UserError("the local sweep needs Optuna: pip install 'fusion_lightning[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(config)
    space = read_sweep(path)
    trials = trials or space.run_cap or _TRIALS
    try:
        space.command_line({})  # says now what is missing in the environment
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    folder = Path(log_dir) / "sweeps" / path.stem
    _keep_file(path, folder)
    with one_at_a_time(folder):
        study = open_study(space, folder, seed)
        take_up_interrupted(study, log_dir)
    failed: list[tuple[dict[str, Any], str]] = []
    in_a_row = 0
    with StopRequest() as request:
        while len(ended_trials(study)) + len(failed) < trials and (space.method != "grid" or trials_wait(study)):
            try:
                request.heed()
                trial, values = ask(study, space, seed)
                if earlier := tried(study, trial):
                    take_over(trial, earlier, space, study)
                    continue
                if reason := next((why for point, why in failed if point == values), None):
                    give_up(trial, reason, study)
                else:
                    reason = run_trial(trial, values, space, study, log_dir, request)
            except BaseException:
                take_up_interrupted(study, log_dir)  # the table says that the trial waits, and not that it runs
                raise
            finally:
                _write(study, space, folder)
            failed += [(values, reason)] if reason else []
            in_a_row = in_a_row + 1 if reason else 0
            if in_a_row == _FAILURES:
                raise UserError(f"{_FAILURES} trials in a row failed, the last one because: {reason}")
    _write(study, space, folder)
    if failed and not ended_trials(study):
        raise UserError(
            f"{counted(len(failed), 'trial')} failed, and none ended; the last one because: {failed[-1][1]}"
        )
    print_best(study, space)
    if failed:
        print(f"{counted(len(failed), 'trial')} failed: the table says why, and the same command tries again")
    print(f"table in {folder / 'trials.csv'}, picture in {folder / 'trials.png'}")


def _write(study: "Study", space: SweepFile, folder: Path) -> None:
    write_trials(study, space, folder / "trials.csv")
    plot_trials(study, space, folder / "trials.png")


def _keep_file(path: Path, folder: Path) -> None:
    """Keep the sweep beside its trials, and refuse to mix the trials of two."""
    kept = folder / "sweep.yaml"
    if kept.exists() and kept.read_bytes() != path.read_bytes():
        raise UserError(
            f"{folder} holds the trials of another version of {path.name}: choose another --log_dir, or move it away"
        )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, kept)
