"""One trial of a search: a training in a process of its own, watched, and stopped where it is not worth going on."""

import csv
import ctypes
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fusion_lightning.commands.sweep.file import SweepFile
from fusion_lightning.commands.sweep.locks import lock_run
from fusion_lightning.commands.sweep.study import trial_index
from fusion_lightning.errors import Interrupted
from fusion_lightning.text import printable

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

_PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when the one that started it has ended."""
_POLL = 0.5
"""Seconds between two looks at what a trial has logged."""
_GRACE = 120
"""Seconds that a trial has to save itself when it is stopped."""


class StopRequest:
    """Notices that the search is asked to stop (Ctrl-C, `kill`, a terminal that is closed) while it runs trials."""

    _signals = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __enter__(self) -> "StopRequest":
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


def run_trial(
    trial: "Trial", values: dict[str, Any], space: SweepFile, study: "Study", log_dir: str, request: StopRequest
) -> str | None:
    """Run a trial in a process of its own; returns the last line of its error if it failed."""
    from optuna.trial import TrialState

    run = trial.user_attrs.get("run", f"trial-{trial_index(study, trial):04d}")
    line = space.command_line(values)
    line += [f"--log_dir={log_dir}", f"--experiment={study.study_name}", f"--run_id={run}", "--ckpt_path=last"]
    folder = Path(log_dir) / study.study_name / run
    lock = lock_run(folder)
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
    process: "subprocess.Popen[bytes]", trial: "Trial", space: SweepFile, folder: Path, request: StopRequest
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
