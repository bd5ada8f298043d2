"""Results of a search: table of trials, parallel-coordinates plot."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fusion_lightning.commands.sweep.file import SweepFile
from fusion_lightning.files import write_atomic
from fusion_lightning.text import counted

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_SHOWN = 5


def write_trials(study: "Study", space: SweepFile, path: Path) -> None:
    """Write one row per trial: run, state, the metric, the options, how long it took, and why it failed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["run", "state", space.metric, *space.parameters, "seconds", "error"])
    for trial in study.get_trials(deepcopy=False):
        attributes = trial.user_attrs
        writer.writerow(
            [attributes.get("run", ""), trial.state.name.lower(), last_value(trial)]
            + [trial.params.get(name, "") for name in space.parameters]
            + [attributes.get("seconds", ""), attributes.get("error", "")]
        )
    write_atomic(path, text.getvalue())


def print_best(study: "Study", space: SweepFile) -> None:
    """Print the best trials and the options of the best one as they are typed."""
    ranked = _ranked(study, space)
    if not ranked:
        return
    table = Table("run", space.metric, *space.parameters)
    once = {trial.user_attrs.get("run"): trial for trial in ranked}  # a point that came back has its first run
    for trial in list(once.values())[:_SHOWN]:
        values = [_short(trial.params[name]) for name in space.parameters]
        table.add_row(str(trial.user_attrs.get("run")), f"{last_value(trial):.6g}", *values)
    console = Console()
    console.print(table)
    if len(once) < len(ranked):
        print(f"{len(ranked)} trials, {counted(len(once), 'different point')}")
    best = " ".join(f"--{name}={value}" for name, value in ranked[0].params.items())
    console.print(f"best: {best}", soft_wrap=True, highlight=False)


def plot_trials(study: "Study", space: SweepFile, path: Path) -> None:
    """Plot finished trials as parallel coordinates: options from the left, the metric on the right.

    The better a trial, the darker its line; those stopped early are dotted.
    """
    trials = _ranked(study, space)[::-1]
    if not trials:
        return
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = {name: _Axis([trial.params[name] for trial in trials], space, name) for name in space.parameters}
    columns[space.metric] = _Axis([last_value(trial) for trial in trials], None, space.metric)
    ranks = Normalize(-0.35 * len(trials), len(trials))
    figure = Figure(figsize=(2.2 * len(columns) + 1, 4.5), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["viridis"].reversed()
    for row, trial in enumerate(trials):
        heights = [axis.heights[row] for axis in columns.values()]
        style = "-" if trial.state.name == "COMPLETE" else ":"
        best = row == len(trials) - 1
        axes.plot(heights, style, color=colors(ranks(row)), linewidth=2.5 if best else 1.2, zorder=row)
    for place, axis in enumerate(columns.values()):
        axes.axvline(place, color="0.2", linewidth=1, zorder=len(trials) + 1)
        for height, text in axis.ticks:
            axes.annotate(
                text,
                (place, height),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                zorder=len(trials) + 2,
                bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            )
    axes.set_xticks(range(len(columns)), [name.split("init_args.")[-1] for name in columns])
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.6)
    axes.set_ylim(-0.05, 1.05)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{study.study_name}: {counted(len(trials), 'trial')}", fontsize=10)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_atomic(path, picture.getvalue())


class _Axis:
    """Where values lie on an axis from 0 to 1, and what is written beside it."""

    def __init__(self, values: Sequence[Any], space: SweepFile | None, name: str) -> None:
        choices = space.choices(name) if space else []
        if choices:
            places = np.linspace(0, 1, len(choices)) if len(choices) > 1 else np.array([0.5])
            self.heights = [float(places[choices.index(value)]) for value in values]
            self.ticks = [(float(place), _short(choice)) for place, choice in zip(places, choices, strict=True)]
            return
        log = bool(getattr(space.parameters[name], "log", False)) if space else False
        low, high = min(values), max(values)
        if space:
            low, high = (getattr(space.parameters[name], end) for end in ("low", "high"))
        scale = math.log if log else float
        begin, length = scale(low), (scale(high) - scale(low)) or 1.0
        self.heights = [(scale(value) - begin) / length for value in values]
        marks = [0, 0.25, 0.5, 0.75, 1]
        self.ticks = [
            (mark, _short(math.exp(begin + mark * length) if log else begin + mark * length)) for mark in marks
        ]


def _ranked(study: "Study", space: SweepFile) -> "list[FrozenTrial]":
    """Finished trials with a value, the best first; those stopped early come after those that ran to their end."""
    from optuna.trial import TrialState

    known = set(space.parameters)
    found = [one for one in ended_trials(study) if last_value(one) is not None and set(one.params) == known]
    sign = -1 if space.maximize else 1
    return sorted(found, key=lambda trial: (trial.state != TrialState.COMPLETE, sign * float(last_value(trial) or 0)))


def ended_trials(study: "Study") -> "list[FrozenTrial]":
    """The trials that ran to their end, or were stopped because others were better."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def last_value(trial: "FrozenTrial") -> float | None:
    """The metric at a trial's end, or where it was stopped."""
    if trial.value is not None:
        return trial.value
    return trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
