"""Runs that go on: at any place, in any folder, with other settings."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fusion_lightning.callbacks import SignalCheckpoint
from fusion_lightning.checkpoints import RunCheckpoint
from fusion_lightning.errors import Interrupted
from fusion_lightning.main import main

from .conftest import TINY

EPOCH = ["--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY, "--data.length=4", "--data.crop_size=16"]
EPOCH += ["--data.scene_size=32", "--previews.count=0", "--checkpoint.every_n_train_steps=1", "--run_id=r"]
"""An epoch has two steps."""
EVERY_EPOCH = ["--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1"]


def _fit(folder: Path, *more: str) -> int:
    return main(["fit", *EPOCH, f"--log_dir={folder}", *more])


def _checkpoints(folder: Path) -> Path:
    return folder / "cled_stage1" / "r" / "checkpoints"


def _saved(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(_checkpoints(folder) / f"{name}.ckpt", weights_only=True)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["global_step"] == other["global_step"] and all(
        torch.equal(value, other[part][name])
        for part in ("state_dict", "current_model_state")
        for name, value in one[part].items()
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs that are never interrupted, each of which ends with a validation."""
    torch.set_num_threads(1)  # as in the tests, which are to end with the same bits
    folder = tmp_path_factory.mktemp("straight")
    assert _fit(folder, "--trainer.max_steps=4", *EVERY_EPOCH) == 0
    return folder


@pytest.mark.parametrize(
    ("hook", "call", "limit"),
    [
        ("on_validation_batch_end", 1, "--trainer.max_steps=4"),
        pytest.param("on_validation_batch_end", 2, "--trainer.max_epochs=2", marks=pytest.mark.slow),
        pytest.param("on_validation_start", 1, "--trainer.max_epochs=2", marks=pytest.mark.slow),
        pytest.param("on_validation_end", 1, "--trainer.max_epochs=2", marks=pytest.mark.slow),
        pytest.param("on_validation_batch_end", 2, "--trainer.max_steps=4", marks=pytest.mark.slow),
        pytest.param("on_train_epoch_end", 1, "--trainer.max_steps=4", marks=pytest.mark.slow),
        pytest.param("on_train_epoch_end", 2, "--trainer.max_epochs=2", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_dies_around_a_validation_ends_as_if_it_had_not(
    hook: str, call: int, limit: str, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [0], getattr(SignalCheckpoint, hook, None)

    def dying(self: SignalCheckpoint, *given: Any, **more: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise Interrupted("killed", signal.SIGTERM)  # nothing is saved for it
        if original is not None:
            original(self, *given, **more)

    monkeypatch.setattr(SignalCheckpoint, hook, dying, raising=False)
    steps = [limit, "--trainer.max_steps=-1"] if "epochs" in limit else [limit]
    assert _fit(tmp_path, *steps, *EVERY_EPOCH, "--ckpt_path=last") == 143
    monkeypatch.undo()
    assert _fit(tmp_path, *steps, *EVERY_EPOCH, "--ckpt_path=last") == 0
    for name in ("last", "best"):
        assert _equal(_saved(tmp_path, name), _saved(straight, name)), name
    again = (_checkpoints(tmp_path) / "best.ckpt").read_bytes()
    assert _fit(tmp_path, *steps, *EVERY_EPOCH, "--ckpt_path=last") == 0  # there is nothing more to do
    assert (_checkpoints(tmp_path) / "best.ckpt").read_bytes() == again


@pytest.mark.slow
def test_a_checkpoint_of_an_epochs_end_goes_on_with_the_next(straight: Path, tmp_path: Path) -> None:
    assert _fit(tmp_path, "--trainer.max_steps=2", *EVERY_EPOCH) == 0
    best = _checkpoints(tmp_path) / "best.ckpt"
    assert _fit(tmp_path, "--trainer.max_steps=4", *EVERY_EPOCH, f"--ckpt_path={best}") == 0
    assert _equal(_saved(tmp_path), _saved(straight))


def _make_unbeatable(folder: Path) -> bytes:
    """Let the best checkpoint say of itself that it has a score that nothing beats."""
    path = _checkpoints(folder) / "best.ckpt"
    saved = torch.load(path, weights_only=True)
    (state,) = (state for state in saved["callbacks"].values() if state.get("monitor"))
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(99.0))
    torch.save(saved, path)
    os.utime(_checkpoints(folder) / "last.ckpt")
    return path.read_bytes()


@pytest.mark.parametrize(
    "way", ["elsewhere", *(pytest.param(way, marks=pytest.mark.slow) for way in ("file", "link", "moved"))]
)
def test_the_best_checkpoint_is_never_lost(way: str, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    shutil.copytree(straight, folder)
    kept = _make_unbeatable(folder)
    last = _checkpoints(folder) / "last.ckpt"
    if way == "link":
        (tmp_path / "link").symlink_to(folder)
        last = _checkpoints(tmp_path / "link") / "last.ckpt"
    if way == "moved":
        folder = folder.rename(tmp_path / "elsewhere")
        last = _checkpoints(folder) / "last.ckpt"
    if way == "elsewhere":
        folder = tmp_path / "new"
    line = [word for word in EPOCH if not word.startswith("--run_id")]
    more = [f"--log_dir={folder}"] if way == "elsewhere" else []
    assert main(["fit", *line, "--trainer.max_steps=6", *EVERY_EPOCH, f"--ckpt_path={last}", *more]) == 0
    assert (_checkpoints(folder) / "best.ckpt").read_bytes() == kept
    assert _saved(folder)["global_step"] == 6


def test_paths_in_a_checkpoint_lead_nowhere_else(tmp_path: Path) -> None:
    saver = RunCheckpoint(dirpath=str(tmp_path / "checkpoints"), monitor="x")
    state = saver.state_dict() | {"best_model_path": "/etc/passwd", "best_k_models": {"/a/../../b.ckpt": 1.0}}
    saver.load_state_dict(state)
    assert saver.best_model_path == str(tmp_path / "checkpoints" / "passwd")
    assert list(saver.best_k_models) == [str(tmp_path / "checkpoints" / "b.ckpt")]


def test_a_run_goes_on_with_what_is_configured_and_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    schedule = "--model.scheduler={class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 2}}"
    longer = schedule.replace("2}", "6}")
    assert _fit(tmp_path, "--trainer.max_steps=2", schedule) == 0
    more = ["--trainer.max_steps=4", longer, "--model.optimizer.init_args.lr=0.001", "--data.batch_size=1"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert _fit(tmp_path, *more, "--trainer.callbacks=null", "--ckpt_path=last") == 0
    words = " ".join(str(one.message) for one in said)
    assert "lr 0.001 instead of 8e-05" in words
    assert "T_max 6 instead of 2" in words
    assert "batch_size 1 instead of 2" in words
    assert "averaged its weights before" in words
    group = _saved(tmp_path)["optimizer_states"][0]["param_groups"][0]
    expected = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.001)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(expected, T_max=6)
    for _ in range(4):
        expected.step()
        scheduler.step()
    assert group["lr"] == pytest.approx(expected.param_groups[0]["lr"])
    record = yaml.safe_load((_checkpoints(tmp_path).parent / "config-2.yaml").read_text())["model"]["init_args"]
    assert record["optimizer"]["init_args"]["lr"] == 0.001


def test_no_pair_is_passed_over_by_another_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = SignalCheckpoint.on_train_batch_start

    def noted(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        seen.extend(batch["name"])
        original(self, trainer, module, batch, index)

    monkeypatch.setattr(SignalCheckpoint, "on_train_batch_start", noted)
    line = ["--data.length=12", "--trainer.limit_val_batches=0"]
    assert _fit(tmp_path, *line, "--trainer.max_steps=2") == 0
    with pytest.warns(UserWarning, match="batch_size 4 instead of 2"):
        assert _fit(tmp_path, *line, "--trainer.max_steps=4", "--data.batch_size=4", "--ckpt_path=last") == 0
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 12


def test_a_run_is_trained_by_one_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "import fcntl, pathlib, sys, time; from fusion_lightning.runs import RunFolder\n"
        "lock = RunFolder(sys.argv[1], 'cled_stage1', 'r').lock(); print('locked', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert _fit(tmp_path) == 1
        assert "is being trained by another process" in capfd.readouterr().err
    finally:
        other.kill()
        other.wait()
    assert _fit(tmp_path, "--trainer.max_steps=1") == 0


@pytest.mark.slow
def test_scores_can_stand_in_names(tmp_path: Path) -> None:
    assert _fit(tmp_path, "--best.filename={step}-{val/PSNR_restored:.2f}") == 0
    (best,) = (path for path in _checkpoints(tmp_path).iterdir() if path.name != "last.ckpt")
    assert best.name.startswith("step=2-val_PSNR_restored=")
    assert main(["test", *EPOCH, f"--log_dir={tmp_path}", "--ckpt_path=best"]) == 0


def test_no_checkpoints_are_kept_where_none_are_wanted(tmp_path: Path) -> None:
    assert _fit(tmp_path, "--trainer.enable_checkpointing=false") == 0
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.slow
def test_every_row_is_logged_once(tmp_path: Path, straight: Path) -> None:
    assert not list(straight.rglob("metrics.csv"))  # quiet runs log nothing
    logged = [word for word in EPOCH if not word.startswith("--trainer.logger")]
    line = ["fit", *logged, f"--log_dir={tmp_path}", "--trainer.logger=CSVLogger", *EVERY_EPOCH]
    line += [f"--trainer.logger.save_dir={tmp_path}", "--trainer.log_every_n_steps=1"]
    assert main([*line, "--trainer.max_steps=1"]) == 0
    assert main([*line, "--trainer.max_steps=4", "--ckpt_path=last"]) == 0
    rows = []
    for path in sorted(tmp_path.rglob("metrics.csv")):
        with path.open() as file:
            rows += [(row["step"], key) for row in csv.DictReader(file) for key, value in row.items() if value]
    losses = [step for step, key in rows if key == "train/loss"]
    assert losses == ["0", "1", "2", "3"]
