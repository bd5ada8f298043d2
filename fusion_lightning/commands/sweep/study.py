"""The search itself: Optuna's study, the trials that it asks for, those that wait, and those that were tried before."""

import itertools
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_lightning.commands.sweep.file import SweepFile
from fusion_lightning.commands.sweep.locks import lock_run
from fusion_lightning.commands.sweep.results import ended_trials, last_value
from fusion_lightning.text import printable

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

_BEGINNING = timedelta(minutes=1)
"""A trial that has no run yet after so long will never have one."""


def open_study(space: SweepFile, folder: Path, seed: int) -> "Study":
    """The search that a folder keeps, or a new one; a grid waits in line as a whole."""
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
    if space.method == "grid" and not study.trials:
        for point in itertools.product(*(space.choices(name) for name in space.parameters)):
            study.enqueue_trial(dict(zip(space.parameters, point, strict=True)))
    return study


def _sampler(space: SweepFile, seed: int) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    return TPESampler(seed=seed, n_startup_trials=5) if space.method == "bayes" else RandomSampler(seed)


def ask(study: "Study", space: SweepFile, seed: int) -> "tuple[Trial, dict[str, Any]]":
    """A new trial and the values of its options; they depend on the seed and the trials before it alone."""
    trial = study.ask()
    study.sampler = _sampler(space, seed + trial_index(study, trial))
    return trial, {name: space.suggest(trial, name) for name in space.parameters}


def trial_index(study: "Study", trial: "Trial") -> int:
    """The number of a trial, without those that were only done again: interruptions do not change the search."""
    return trial.number - sum(one.number < trial.number and "again" in one.user_attrs for one in study.get_trials())


def take_up_interrupted(study: "Study", log_dir: str) -> None:
    """Re-enqueue trials whose process died; each resumes its own run folder."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        run = trial.user_attrs.get("run")
        begun = trial.datetime_start or datetime.now()
        if run is None and datetime.now() - begun < _BEGINNING:
            continue
        if run is not None:
            lock = lock_run(Path(log_dir) / study.study_name / run)
            if lock is None:
                continue
            os.close(lock)
        study.tell(trial.number, state=TrialState.FAIL)
        if run is not None:
            study.enqueue_trial(trial.params, user_attrs={"run": run, "again": True})


def trials_wait(study: "Study") -> bool:
    """Whether trials are in line: points of a grid, or runs that were interrupted."""
    from optuna.trial import TrialState

    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def tried(study: "Study", trial: "Trial") -> "FrozenTrial | None":
    """An earlier trial at the same point that has a score; another training would end as it did."""
    return next((one for one in ended_trials(study) if one.params == trial.params), None)


def give_up(trial: "Trial", reason: str, study: "Study") -> None:
    """Fail a trial at a point that has failed before, without training."""
    from optuna.trial import TrialState

    trial.set_user_attr("error", reason)
    study.tell(trial, state=TrialState.FAIL)
    print(printable(f"trial-{trial_index(study, trial):04d}: at a point that failed, not trained again: {reason}"))


def take_over(trial: "Trial", earlier: "FrozenTrial", space: SweepFile, study: "Study") -> None:
    """End a trial as an earlier one ended, without training."""
    run = earlier.user_attrs["run"]
    trial.set_user_attr("run", run)
    for step, value in earlier.intermediate_values.items():
        trial.report(value, step)
    study.tell(trial, earlier.value if earlier.state.name == "COMPLETE" else None, state=earlier.state)
    score = f"{space.metric} = {last_value(earlier):.6g}"
    print(f"trial-{trial_index(study, trial):04d}: at the point of {run}, not trained again: {score}", flush=True)
