"""Two real processes, started as a user starts them, give what one gives."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules import FusionData
from fusion_lightning.datamodules.sampler import EvaluationSampler, TrainSampler
from fusion_lightning.errors import UserError
from fusion_lightning.main import main

from . import wandb_files
from .conftest import TINY

STEPS = 20
COMMON = [one for one in TINY if not one.startswith("--trainer.") or "accelerator" in one or "progress" in one]
COMMON += [f"--trainer.max_steps={STEPS}", f"--trainer.val_check_interval={STEPS}", "--trainer.log_every_n_steps=1"]
COMMON += ["--data.batch_size=4", "--data.length=24", "--data.crop_size=16", "--data.split_batch=true"]
COMMON += ["--data.scenarios=[noise,blur]", "--data.quotas={noise: 3}", "--run_id=r"]


def _start(verb: str, name: str, folder: Path, devices: int, *more: str) -> "subprocess.Popen[str]":
    environment = {**wandb_files.logged_out(folder), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "fusion_lightning", verb, f"--config={name}.yaml", "--config=smoke.yaml"]
    command += ["--config=ddp.yaml", *COMMON, f"--trainer.devices={devices}", f"--log_dir={folder}", *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _run(*arguments: Any) -> None:
    process = _start(*arguments)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["cled_stage1", "cled_stage2"])
def test_two_processes_learn_and_score_what_one_does(name: str, stage1: str, tmp_path: Path) -> None:
    needs = [f"--model.stage1_checkpoint={stage1}"] if name == "cled_stage2" else []
    curves, tables, weights = [], [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        _run("fit", name, folder, devices, *needs)
        run = folder / name / "r"
        assert len(list((run / "wandb").glob("offline-run-*"))) == 1
        assert sum("train/loss" in row for row in wandb_files.history(run)) == STEPS
        rows = [row for row in _csv(run / "csv" / "fit" / "metrics.csv") if row["train/loss"]]
        curves.append([float(row["train/loss"]) for row in rows])
        checkpoint = run / "checkpoints" / "last.ckpt"
        weights.append(torch.load(checkpoint, weights_only=True))
        # one checkpoint for both tables, so that they can be compared to the last digit
        _run("test", name, folder, devices, f"--ckpt_path={tmp_path / '1' / name / 'r' / 'checkpoints' / 'last.ckpt'}")
        tables.append(_csv(tmp_path / "1" / name / "r" / "scores.csv"))
    assert len(curves[0]) == STEPS
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)
    for part in ("state_dict", "current_model_state"):  # averaged and not
        for key, value in weights[0][part].items():
            torch.testing.assert_close(weights[1][part][key], value, atol=1e-3, rtol=1e-3)
    assert [row["name"] for row in tables[0]] == [row["name"] for row in tables[1]]
    for one, two in zip(*tables, strict=True):
        numbers = {key: float(value) for key, value in one.items() if key not in ("name", "scenario") and value}
        assert {key: float(two[key]) for key in numbers} == pytest.approx(numbers, rel=1e-5, nan_ok=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_takes_the_others_with_it(victim: int, tmp_path: Path) -> None:
    process = _start("fit", "cled_stage1", tmp_path, 2, "--trainer.max_steps=100000", "--trainer.logger=false")
    try:
        checkpoint = tmp_path / "cled_stage1" / "r" / "checkpoints" / "last.ckpt"
        _wait_for(checkpoint.exists, 200)
        (child,) = _children(process.pid)
        began = time.monotonic()
        os.kill((process.pid, child)[victim], signal.SIGKILL)
        assert process.wait(60) != 0
        _wait_for(lambda: not _is_running(child), 60 - (time.monotonic() - began))
    finally:
        for one in (process.pid, *_children(process.pid)):
            if _is_running(one):
                os.kill(one, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_signal_to_one_process_saves_all_of_them(tmp_path: Path) -> None:
    more = ["--trainer.max_steps=100000", "--trainer.logger=false", "--checkpoint.every_n_train_steps=3"]
    process = _start("fit", "cled_stage1", tmp_path, 2, *more)
    checkpoint = tmp_path / "cled_stage1" / "r" / "checkpoints" / "last.ckpt"
    _wait_for(checkpoint.exists, 200)
    (child,) = _children(process.pid)
    os.kill(child, signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, said[-3000:]
    step = torch.load(checkpoint, weights_only=True)["global_step"]
    assert f"error: interrupted by SIGTERM after step {step}: go on with" in said


def _wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _children(process: int) -> list[int]:
    """Processes of a process that train: its data workers are not started, and W&B's is another program."""
    listed = subprocess.run(["ps", "--ppid", str(process), "-o", "pid=,args="], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "fusion_lightning" in line]


def _is_running(process: int) -> bool:
    state = subprocess.run(["ps", "-p", str(process), "-o", "stat="], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_a_split_batch_holds_the_same_samples_for_any_number_of_processes(world: int) -> None:
    quotas = {"noise": 2, "blur": 1}
    alone = list(TrainSampler(20, 6, seed=3, quotas=quotas, split=True))
    ranks = [
        list(TrainSampler(20, 6, seed=3, quotas=quotas, rank=rank, world_size=world, split=True))
        for rank in range(world)
    ]
    each = 6 // world
    for step in range(3):
        together = [draw for rank in ranks for draw in rank[step * each : (step + 1) * each]]
        expected = alone[step * 6 : (step + 1) * 6]
        assert sorted(map(repr, together)) == sorted(map(repr, expected))


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(UserError, match="`batch_size: 5` cannot be split over 2 processes"):
        TrainSampler(20, 5, world_size=2, split=True)


def test_evaluation_deals_every_image_out_once() -> None:
    dealt = [list(EvaluationSampler(7, rank, 3)) for rank in range(3)]
    assert sorted(index for mine in dealt for index in mine) == list(range(7))
    with pytest.raises(UserError, match="2 pairs cannot be shared by 3 processes"):
        EvaluationSampler(2, 0, 3)


def test_a_batch_is_split_by_the_data_module() -> None:
    data = FusionData(length=12, scene_size=64, crop_size=16, batch_size=4, split_batch=True, num_workers=0)
    data.setup("fit")
    batch: FusionBatch = next(iter(data.train_dataloader()))
    assert len(batch["name"]) == 4


def test_sharded_weights_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*TINY, "--trainer.strategy=fsdp", f"--log_dir={tmp_path}"]
    assert main(["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *arguments]) == 1
    assert "weights that are sharded (fsdp) cannot be averaged" in capsys.readouterr().err


def test_one_task_of_slurm_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = {"NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1", "JOB_ID": "7", "JOB_NAME": "train", "PROCID": "0"}
    slurm |= {"LOCALID": "0", "NODEID": "0", "NODELIST": "localhost"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    arguments = [*TINY, "--config=ddp.yaml", "--config=slurm.yaml", "--run_id=7"]
    arguments += ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    arguments += ["--ckpt_path=last", f"--log_dir={tmp_path}", "--trainer.limit_val_batches=0"]
    assert main(["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *arguments]) == 0
    assert (tmp_path / "cled_stage1" / "7" / "checkpoints" / "last.ckpt").exists()
