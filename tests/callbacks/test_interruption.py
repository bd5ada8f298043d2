"""Runs that are asked to stop, at any moment, and go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion_lightning.callbacks import SignalCheckpoint
from fusion_lightning.main import main

from ..conftest import TINY

ROOT = Path(__file__).parents[2]


def _fit(folder: Path, run: str, *more: str) -> int:
    """Five steps of batches of two, an epoch of five, a validation after the third, a checkpoint after the second."""
    arguments = [*TINY, "--trainer.max_steps=5", "--trainer.val_check_interval=3", "--data.length=10"]
    arguments += ["--checkpoint.every_n_train_steps=2", "--data.crop_size=16", "--previews.count=0"]
    arguments += [f"--run_id={run}", f"--log_dir={folder}", *more]
    return main(["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *arguments])


def _last(folder: Path, run: str) -> dict[str, Any]:
    path = folder / "cled_stage1" / run / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that is never interrupted ends with."""
    folder = tmp_path_factory.mktemp("straight")
    assert _fit(folder, "r") == 0
    return _last(folder, "r")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, signal.Signals], None]:
    """Send this process a signal at the n-th call of one of the callback's hooks."""

    def arrange(hook: str, call: int, signum: signal.Signals) -> None:
        calls, original = [0], getattr(SignalCheckpoint, hook)

        def asking(self: SignalCheckpoint, *arguments: Any, **more: Any) -> None:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signum)
            original(self, *arguments, **more)

        monkeypatch.setattr(SignalCheckpoint, hook, asking)

    return arrange


TERM, INT, USR1, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2
STEP, VALIDATION = "on_train_batch_end", "on_validation_batch_end"


@pytest.mark.parametrize(
    "interruptions",
    [
        [(STEP, 2, TERM, 2), (VALIDATION, 1, INT, 3)],
        pytest.param(
            [(STEP, 1, INT, 1), (STEP, 1, USR1, 2), (STEP, 1, USR2, 3), (VALIDATION, 1, TERM, 3), (STEP, 2, TERM, 5)],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    interruptions: list[tuple[str, int, signal.Signals, int]],
    ask: Callable[[str, int, signal.Signals], None],
    straight: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for hook, call, signum, step in interruptions:
        ask(hook, call, signum)
        assert _fit(tmp_path, "r", "--ckpt_path=last") == 128 + signum  # the first time it begins
        monkeypatch.undo()
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"error: interrupted by {signum.name} after step {step}: go on with")
        assert _last(tmp_path, "r")["global_step"] == step
    assert signal.getsignal(signal.SIGTERM) == before
    assert _fit(tmp_path, "r", "--ckpt_path=last") == 0
    resumed = _last(tmp_path, "r")
    assert resumed["global_step"] == straight["global_step"] == 5
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in straight[part].items())
    # the validation that was left has been made up for: the best checkpoint knows its score
    assert (tmp_path / "cled_stage1" / "r" / "checkpoints" / "best.ckpt").exists()


def test_a_run_is_never_begun_in_the_place_of_another(
    stage1: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = Path(stage1).read_bytes()
    run = ["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY]
    assert main([*run, "--run_id=r", f"--log_dir={Path(stage1).parents[3]}"]) == 1
    assert "holds a run already: go on with it by --ckpt_path" in capsys.readouterr().err
    assert Path(stage1).read_bytes() == kept
    assert main([*run, "--ckpt_path=last", f"--log_dir={tmp_path}"]) == 1
    assert "--ckpt_path last needs --run_id" in capsys.readouterr().err
    assert main(["test", *run[1:], "--ckpt_path=best", "--run_id=none", f"--log_dir={tmp_path}"]) == 1
    assert "there is none in" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_runs_that_are_killed_end_like_the_one_that_never_was() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_drill.py"), "--kills", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4/4 ended as the run never killed" in done.stdout


@pytest.mark.slow
def test_a_full_disk_stops_with_a_sentence(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    try:
        command = [sys.executable, "-m", "fusion_lightning", "fit", "--config=cled_stage1.yaml", "--config=smoke.yaml"]
        command += [*TINY, f"--log_dir={disk}", "--run_id=r", "--checkpoint.every_n_train_steps=1"]
        command += ["--checkpoint.save_top_k=-1", "--checkpoint.filename={step}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 1
        assert "cannot be written: the disk is full, free some space" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        for path in (disk / "cled_stage1" / "r" / "checkpoints").iterdir():
            torch.load(path, weights_only=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_second_control_c_does_not_wait_and_says_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = SignalCheckpoint.on_train_batch_start

    def twice(self: SignalCheckpoint, trainer: Any, *given: Any) -> None:
        original(self, trainer, *given)
        if trainer.global_step == 3:
            os.kill(os.getpid(), INT)
            os.kill(os.getpid(), INT)

    monkeypatch.setattr(SignalCheckpoint, "on_train_batch_start", twice)
    assert _fit(tmp_path, "r") == 128 + INT
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: interrupted by SIGINT in the middle of a step: go on with the same command")
    assert _last(tmp_path, "r")["global_step"] == 3  # saved before the validation


def test_a_run_that_is_stopped_before_its_first_checkpoint_says_how_to_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = SignalCheckpoint.on_train_batch_start

    def twice(self: SignalCheckpoint, trainer: Any, *given: Any) -> None:
        original(self, trainer, *given)
        os.kill(os.getpid(), INT)
        os.kill(os.getpid(), INT)

    with monkeypatch.context() as patched:
        patched.setattr(SignalCheckpoint, "on_train_batch_start", twice)
        assert _fit(tmp_path, "r") == 128 + INT
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == (
        "error: interrupted by SIGINT in the middle of a step and before the first checkpoint: nothing was saved, so "
        "the same command starts anew; --checkpoint.every_n_train_steps saves earlier"
    )
    assert _fit(tmp_path, "r") == 0
