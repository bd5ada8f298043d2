"""Hyper-parameter search on this machine, from a W&B sweep file and without an account."""

import csv
import ctypes
import itertools
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fusion_lightning.commands.sweep.file import SweepFile, read_sweep
from fusion_lightning.commands.sweep.results import ended_trials, last_value, plot_trials, print_best, write_trials
from fusion_lightning.errors import Interrupted, UserError
from fusion_lightning.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

_TRIALS = 20
_PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when the one that started it has ended."""
_POLL = 0.5
"""Seconds between two looks at what a trial has logged."""
_GRACE = 120
"""Seconds that a trial has to save itself when it is stopped."""
_BEGINNING = timedelta(minutes=1)
"""A trial that has no run yet after so long will never have one."""
_FAILURES = 3
"""As many trials that fail in a row are the sweep's fault."""


def sweep(config: str, trials: int | None = None, seed: int = 0, log_dir: str = "logs") -> None:
    """Run the trials of a W&B sweep one after the other, without W&B: Optuna chooses them.

    Everything is kept in ``LOG_DIR/sweeps/NAME``: the search itself, ``trials.csv``, and ``trials.png``, a picture of
    parallel coordinates; the runs are in ``LOG_DIR/NAME``. The same command goes on with a search that was
    interrupted, and with the trial it was at; started several times at once, it shares one search.

    Args:
        config: A file of `configs/sweeps`, or your own.
        trials: How many trials the search has when it is finished, earlier ones counted in; without it as many as the
            file's ``run_cap`` says, or 20.
        seed: Of the search.
        log_dir: Where the search and its runs go.

    Raises:
        UserError: If the file cannot be used, Optuna is not installed, the system has no file locks (Windows), or three
            trials in a row fail.
    """
    if fcntl is None:
        raise UserError("`sweep` needs file locks, which this system lacks: use `wandb agent`, Linux, macOS or WSL")
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
    with _one_at_a_time(folder):
        study = _open(space, folder, seed)
        _take_up_interrupted(study, log_dir)
    failures = 0
    with _StopRequest() as request:
        while len(ended_trials(study)) < trials and (space.method != "grid" or _are_waiting(study)):
            try:
                request.heed()
                trial, values = _ask(study, space, seed)
                if earlier := _tried(study, trial):
                    _take_over(trial, earlier, space, study)
                    continue
                reason = _run(trial, values, space, study, log_dir, request)
            except BaseException:
                _take_up_interrupted(study, log_dir)  # the table says that the trial waits, and not that it runs
                raise
            finally:
                _write(study, space, folder)
            failures = failures + 1 if reason else 0
            if failures == _FAILURES:
                raise UserError(f"{_FAILURES} trials in a row failed, the last one because: {reason}")
    _write(study, space, folder)
    print_best(study, space)
    print(f"table in {folder / 'trials.csv'}, picture in {folder / 'trials.png'}")


class _StopRequest:
    """Notices that the search is asked to stop (Ctrl-C, `kill`, a terminal that is closed) while it runs trials."""

    _signals = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __enter__(self) -> "_StopRequest":
        self._asked: int | None = None
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._notice) for one in self._signals}
        return self

    def __exit__(self, *error: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def heed(self) -> None:
        """Stop if asked to.

        Raises:
            Interrupted: If it was.
        """
        if self._asked is not None:
            name = signal.Signals(self._asked).name
            raise Interrupted(f"interrupted by {name}: the same command goes on, with the trial it was at", self._asked)

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        self._asked = signum


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


def _open(space: SweepFile, folder: Path, seed: int) -> "Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(
        study_name=folder.name,
        storage=JournalStorage(JournalFileBackend(str(folder / "search.journal"))),
        sampler=_sampler(space, seed),
        pruner=space.pruner(),
        direction="maximize" if space.maximize else "minimize",
        load_if_exists=True,
    )
    if space.method == "grid" and not study.trials:  # a grid waits in line as a whole
        for point in itertools.product(*(space.choices(name) for name in space.parameters)):
            study.enqueue_trial(dict(zip(space.parameters, point, strict=True)))
    return study


def _sampler(space: SweepFile, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    return TPESampler(seed=seed, n_startup_trials=5) if space.method == "bayes" else RandomSampler(seed)


def _ask(study: "Study", space: SweepFile, seed: int) -> "tuple[Trial, dict[str, Any]]":
    """A new trial and the values of its options; they depend on the seed and the trials before it alone."""
    trial = study.ask()
    study.sampler = _sampler(space, seed + _index(study, trial))
    return trial, {name: space.suggest(trial, name) for name in space.parameters}


def _index(study: "Study", trial: "Trial") -> int:
    """The number of a trial, without those that were only done again: interruptions do not change the search."""
    return trial.number - sum(one.number < trial.number and "again" in one.user_attrs for one in study.get_trials())


def _take_up_interrupted(study: "Study", log_dir: str) -> None:
    """Re-enqueue trials whose process died; each resumes its own run folder."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        run = trial.user_attrs.get("run")
        begun = trial.datetime_start or datetime.now()
        if run is None and datetime.now() - begun < _BEGINNING:
            continue
        if run is not None:
            lock = _lock(Path(log_dir) / study.study_name / run)
            if lock is None:
                continue
            os.close(lock)
        study.tell(trial.number, state=TrialState.FAIL)
        if run is not None:
            study.enqueue_trial(trial.params, user_attrs={"run": run, "again": True})


def _lock(folder: Path) -> int | None:
    """A handle that says that a run is being worked on, until the last process that has it ends; None if one does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lock: searches started together must not re-enqueue the same trials."""
    with (folder / ".lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _are_waiting(study: "Study") -> bool:
    from optuna.trial import TrialState

    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _tried(study: "Study", trial: "Trial") -> "FrozenTrial | None":
    """An earlier trial at the same point that has a score; another training would end as it did."""
    return next((one for one in ended_trials(study) if one.params == trial.params), None)


def _take_over(trial: "Trial", earlier: "FrozenTrial", space: SweepFile, study: "Study") -> None:
    """End a trial as an earlier one ended, without training."""
    run = earlier.user_attrs["run"]
    trial.set_user_attr("run", run)
    for step, value in earlier.intermediate_values.items():
        trial.report(value, step)
    study.tell(trial, earlier.value if earlier.state.name == "COMPLETE" else None, state=earlier.state)
    score = f"{space.metric} = {last_value(earlier):.6g}"
    print(f"trial-{_index(study, trial):04d}: at the point of {run}, not trained again: {score}", flush=True)


def _run(
    trial: "Trial", values: dict[str, Any], space: SweepFile, study: "Study", log_dir: str, request: _StopRequest
) -> str | None:
    """Run a trial in a process of its own; returns the last line of its error if it failed."""
    from optuna.trial import TrialState

    run = trial.user_attrs.get("run", f"trial-{_index(study, trial):04d}")
    line = space.command_line(values)
    line += [f"--log_dir={log_dir}", f"--experiment={study.study_name}", f"--run_id={run}", "--ckpt_path=last"]
    folder = Path(log_dir) / study.study_name / run
    lock = _lock(folder)
    assert lock is not None, "two searches run the same trial"
    trial.set_user_attr("run", run)
    print(f"{run}: {shlex.join(f'--{name}={value}' for name, value in values.items())}", flush=True)
    began = time.monotonic()
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            line, stdout=output, stderr=subprocess.STDOUT, pass_fds=(lock,), preexec_fn=_end_with_the_search
        )
        try:
            pruned = _watch(process, trial, space, folder, request)
        finally:  # also when the search itself is stopped: the run saves itself
            _stop(process)
            os.close(lock)
    logged = _logged(folder, space.metric)
    trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
    if pruned:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"{run}: stopped early at {space.metric} = {logged[-1]:.6g}", flush=True)
    elif process.returncode == 0 and logged:
        study.tell(trial, logged[-1])
        print(f"{run}: {space.metric} = {logged[-1]:.6g}", flush=True)
    else:
        error = _last_line(folder / "output.txt") if process.returncode else f"{space.metric} was never logged"
        trial.set_user_attr("error", error)
        study.tell(trial, state=TrialState.FAIL)
        print(printable(f"{run}: failed: {error}"), flush=True)
        return error
    return None


def _end_with_the_search() -> None:
    """Have a trial's process stopped when the search is killed, where the system does that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _watch(
    process: "subprocess.Popen[bytes]", trial: "Trial", space: SweepFile, folder: Path, request: _StopRequest
) -> bool:
    """Wait for a trial and report what it logs; True if it is not worth going on."""
    reported = 0
    while True:
        ended = process.poll() is not None
        for value in (values := _logged(folder, space.metric))[reported:]:
            reported += 1
            trial.report(value, step=reported)
            if trial.should_prune() and not ended:
                return True
        if ended:
            return False
        request.heed()
        reported = len(values)
        time.sleep(_POLL)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _logged(folder: Path, metric: str) -> list[float]:
    """The finite values of a metric that a run has logged, in the order of its steps."""
    by_step: dict[int, float] = {}
    for path in folder.glob("csv/fit*/metrics.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                try:
                    by_step[int(row["step"])] = float(row[metric])
                except (KeyError, TypeError, ValueError):
                    continue  # the row is another metric's, or being written
    return [value for _, value in sorted(by_step.items()) if math.isfinite(value)]


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "it said nothing"
