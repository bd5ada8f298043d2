"""Sweep files, as W&B reads them and as the local search runs them."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from fusion_lightning.commands.sweep.file import read_sweep
from fusion_lightning.configuration import config_folder
from fusion_lightning.main import main

from ..conftest import TINY

FILES = sorted((config_folder() / "sweeps").glob("*.yaml"))

# scores -(log10 x + 3)², less 1 for the wrong kind, and gets there in four steps; it may be told to hang
TOY = """
import csv, math, os, pathlib, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(options["log_dir"]) / options["experiment"] / options["run_id"] / "csv" / "fit"
folder.mkdir(parents=True, exist_ok=True)
x = float(options["x"])
if x < 0:
    sys.exit("error: x must not be negative")
score = -(math.log10(x) + 3) ** 2 - (options["kind"] != "right")
rows = [{"step": step, "val/score": score * 4 / step} for step in (1, 2, 3, 4)]
for count in (1, 2, 3, 4):
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "val/score"])
        writer.writeheader()
        writer.writerows(rows[:count])
    if count == 2 and os.environ.get("HANG") == options["run_id"]:
        print("hangs", os.getpid(), flush=True)
        time.sleep(100)
"""
SPACE = {
    "method": "bayes",
    "metric": {"name": "val/score", "goal": "maximize"},
    "parameters": {
        "x": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1.0},
        "kind": {"values": ["right", "wrong"]},
    },
}


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sweep over the toy; ``**changes`` go into its file."""

    def write(**changes: Any) -> Path:
        (tmp_path / "toy.py").write_text(TOY)
        path = tmp_path / "toy_sweep.yaml"
        command = [sys.executable, str(tmp_path / "toy.py"), "${args}"]
        path.write_text(yaml.safe_dump({**SPACE, "command": command, **changes}))
        return path

    return write


def _search(path: Path, trials: int, folder: Path) -> int:
    return main(["sweep", "--config", str(path), "--trials", str(trials), "--log_dir", str(folder)])


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweeps" / "toy_sweep" / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ten_trials_find_something_better_than_the_default(toy: Callable[..., Path], tmp_path: Path) -> None:
    default = -((-1 + 3) ** 2) - 1  # x = 0.1, the wrong kind
    assert _search(toy(), 10, tmp_path / "logs") == 0
    rows = _table(tmp_path / "logs")
    assert [row["state"] for row in rows] == ["complete"] * 10
    assert max(float(row["val/score"]) for row in rows) > default + 2
    assert (tmp_path / "logs" / "sweeps" / "toy_sweep" / "trials.png").stat().st_size > 10_000
    # asked for as many again it has nothing to do; asked for more it goes on
    assert _search(toy(), 10, tmp_path / "logs") == 0
    assert _search(toy(), 11, tmp_path / "logs") == 0
    assert _table(tmp_path / "logs")[:10] == rows
    assert len(_table(tmp_path / "logs")) == 11


def test_a_search_does_not_depend_on_interruptions(toy: Callable[..., Path], tmp_path: Path) -> None:
    for folder, stops in (("at_once", [4]), ("in_parts", [1, 3, 4])):
        for trials in stops:
            assert _search(toy(method="random"), trials, tmp_path / folder) == 0
    at_once, in_parts = ([(row["x"], row["kind"]) for row in _table(tmp_path / one)] for one in ("at_once", "in_parts"))
    assert at_once == in_parts


@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGKILL, signal.SIGINT))]
)
def test_a_search_that_is_stopped_takes_its_trial_with_it_and_goes_on(
    signum: signal.Signals, toy: Callable[..., Path], tmp_path: Path
) -> None:
    logs, path = tmp_path / "logs", toy()
    command = [sys.executable, "-m", "fusion_lightning", "sweep", "--config", str(path), "--trials", "2"]
    process = subprocess.Popen([*command, f"--log_dir={logs}"], env={**os.environ, "HANG": "trial-0001"})
    output = logs / "toy_sweep" / "trial-0001" / "output.txt"
    deadline = time.monotonic() + 200
    while not output.exists() or "hangs" not in output.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signum)
    assert process.wait() == (-signum if signum == signal.SIGKILL else 128 + signum)
    while Path(f"/proc/{output.read_text().split()[1]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if signum != signal.SIGKILL:
        assert [row["state"] for row in _table(logs) if row["run"] == "trial-0001"] == ["fail", "waiting"]
    assert _search(path, 2, logs) == 0
    rows = [row for row in _table(logs) if row["run"] == "trial-0001"]
    assert [row["state"] for row in rows] == ["fail", "complete"]
    assert rows[0]["x"] == rows[1]["x"]
    assert not (logs / "toy_sweep" / "trial-0002").exists()


def test_a_grid_ends_and_bad_trials_stop_early(toy: Callable[..., Path], tmp_path: Path) -> None:
    grid = {"x": {"values": [1e-3, 1e-5, 1.0]}, "kind": {"values": ["right", "wrong"]}}
    stop = {"type": "hyperband", "min_iter": 1, "eta": 2}
    assert _search(toy(method="grid", parameters=grid, early_terminate=stop), 50, tmp_path / "logs") == 0
    rows = _table(tmp_path / "logs")
    assert len({(row["x"], row["kind"]) for row in rows}) == len(rows) == 6


def test_a_point_that_comes_back_is_not_trained_again(
    toy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = {"x": {"values": [1e-3, 1.0]}, "kind": {"value": "right"}}
    stop = {"type": "hyperband", "min_iter": 1, "eta": 2}
    assert _search(toy(method="random", parameters=two, early_terminate=stop), 5, tmp_path / "logs") == 0
    rows = _table(tmp_path / "logs")
    seen = {row["x"]: row for row in rows[::-1]}
    assert len(rows) == 5 > len(seen)
    for row in rows:
        assert [row[key] for key in ("run", "state", "val/score")] == [
            seen[row["x"]][key] for key in ("run", "state", "val/score")
        ]
    assert {path.name for path in (tmp_path / "logs" / "toy_sweep").iterdir()} == {row["run"] for row in rows}
    said = capsys.readouterr().out
    assert said.count("not trained again") == len(rows) - len(seen)
    assert f"\n5 trials, {len(seen)} different point" in said
    for number, row in enumerate(rows):
        if row is not seen[row["x"]]:
            assert f"trial-{number:04d}: at the point of {row['run']}, not trained again: val/score = " in said


def test_trials_that_fail_stop_the_search(
    toy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"x": {"min": -2.0, "max": -1.0}, "kind": {"value": "right"}}
    assert _search(toy(method="random", parameters=space), 10, tmp_path / "logs") == 1
    assert "3 trials in a row failed, the last one because: x must not be negative" in capsys.readouterr().err
    assert [row["error"] for row in _table(tmp_path / "logs")] == ["x must not be negative"] * 3


def test_a_trial_that_fails_counts_and_its_point_is_not_trained_again(
    toy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = toy(method="random", parameters={"x": {"values": [-1.0, -1.0]}, "kind": {"value": "right"}})
    assert _search(one, 1, tmp_path / "logs") == 1
    assert "1 trial failed, and none ended; the last one because: x must not be negative" in capsys.readouterr().err
    assert len(_table(tmp_path / "logs")) == 1
    assert _search(one, 2, tmp_path / "logs") == 1  # the same command tries again, once
    assert capsys.readouterr().out.count("at a point that failed, not trained again: x must not be negative") == 1
    assert sorted(path.name for path in (tmp_path / "logs" / "toy_sweep").iterdir()) == ["trial-0000", "trial-0001"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "guess"}, "`method` must be one of bayes, random, grid"),
        ({"metric": {"name": "val/score"}}, "`metric` lacks 'goal'"),
        ({"metric": {"name": "val/score", "goal": "up"}}, "`metric.goal` must be maximize or minimize"),
        ({"command": ["python"]}, "${args}"),
        ({"parameters": {}}, "nothing to search"),
        ({"parameters": {"x": {"value": 1}}}, "nothing to search"),
        ({"parameters": {"x": {"values": []}}}, "`parameters.x.values` must be a list"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "numbers `min` < `max`"),
        ({"parameters": {"x": {"min": 0, "max": 1, "distribution": "log_uniform_values"}}}, "must be above 0"),
        ({"parameters": {"x": {"min": 0, "max": 1, "distribution": "normal"}}}, "distribution` must be one of"),
        ({"parameters": {"x": {"minimum": 0}}}, "has no key 'minimum'"),
        ({"method": "grid"}, "`method: grid` needs `values`"),
        ({"early_terminate": {"type": "envelope"}}, "must be hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "needs `min_iter`"),
        ({"command": ["${envvar:NOT_SET}", "${args}"]}, "environment variable NOT_SET"),
        ({"commands": []}, "a sweep has no key 'commands'"),
        ({"command": ["python", "${program}", "${args}"]}, "there is no `program`"),
        ({"command": ["python", "${args_json}", "${args}"]}, "`command` has ${args_json}: known are"),
        ({"run_cap": 0}, "`run_cap` must be a number of trials"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_said(
    changes: dict[str, Any], words: str, toy: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _search(toy(**changes), 3, tmp_path / "logs") == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert words in said
    assert "\n" not in said
    assert not (tmp_path / "logs").exists()


def test_a_sweep_as_people_write_it_for_wandb_runs_where_no_environment_is_activated(
    toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    command = ["${env}", "${interpreter}", "${program}", "${args}"]
    space = SPACE["parameters"] | {"x": {"distribution": "log_uniform_values", "min": "1e-6", "max": "1e-1"}}
    servers = {"entity": "me", "project": "p", "name": "n", "description": "d", "run_cap": 2}
    path = toy(method="random", command=command, program=str(tmp_path / "toy.py"), parameters=space, **servers)
    assert main(["sweep", f"--config={path}", f"--log_dir={tmp_path / 'logs'}"]) == 0
    rows = _table(tmp_path / "logs")
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert all(1e-6 <= float(row["x"]) <= 1e-1 for row in rows)


def test_a_system_without_file_locks_is_said(
    toy: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fusion_lightning.commands.sweep.locks.fcntl", None)
    assert _search(toy(), 1, tmp_path / "logs") == 1
    assert "needs file locks" in capsys.readouterr().err


def _samples(path: Path, count: int) -> list[dict[str, Any]]:
    """Settings a sweep may try: from W&B's own sampler where it is installed, else from ours."""
    space = read_sweep(path)
    try:
        import sweeps
    except ImportError:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
        drawn = []
        for _ in range(count):
            trial = study.ask()
            drawn.append(space.constants | {name: space.suggest(trial, name) for name in space.parameters})
        return drawn
    config = sweeps.SweepConfig(yaml.safe_load(path.read_text()))
    assert not sweeps.schema_violations_from_proposed_config(config)
    return [{name: one["value"] for name, one in run.config.items()} for run in sweeps.next_runs(config, [], n=count)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_agent_types_the_same_command_and_it_is_understood(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAGE1", "stage1.ckpt")
    for values in _samples(path, 2):
        line = _agent_line(path, values)
        assert line[:4] == ["/usr/bin/env", "python", "-m", "fusion_lightning"]
        line[1] = sys.executable  # ours: an environment need not be activated
        assert read_sweep(path).command_line(values) == line
        capsys.readouterr()
        assert main([*line[4:], "--print_config"]) == 0
        parsed = yaml.safe_load(capsys.readouterr().out)
        for name, value in values.items():
            found = parsed
            for key in name.split("."):
                found = found[key]
            assert found == value, name


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_agents_command_runs(
    path: Path,
    stage1: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STAGE1", stage1)
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")  # as an agent does
    (values,) = _samples(path, 1)
    line = _agent_line(path, values)
    assert main([*line[4:], *TINY, "--model.size=tiny", "--data.batch_size=2", f"--log_dir={tmp_path}"]) == 0
    (run,) = tmp_path.glob("*/abc123")
    assert (run / "checkpoints" / "last.ckpt").exists()


def _agent_line(path: Path, values: dict[str, Any]) -> list[str]:
    """What W&B's own agent makes of a sweep's command."""
    words = create_sweep_command(yaml.safe_load(path.read_text())["command"])
    made = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    made |= {"env": ["/usr/bin/env"], "interpreter": ["python"]}
    return [part for word in words for part in (made.get(word[2:-1], [word]) if word.startswith("${") else [word])]
