"""What a run leaves in W&B's files, and that no outage stops it."""

import csv
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import pytest
import wandb
import yaml

from fusion_lightning import loggers
from fusion_lightning.callbacks import SignalCheckpoint
from fusion_lightning.main import main

from . import wandb_files
from .conftest import TINY
from .wandb_server import WandbServer

RUN = ["--config=cled_stage1.yaml", "--config=smoke.yaml", *(one for one in TINY if "logger" not in one), "--run_id=r"]
INTERNAL = ("_step", "_runtime", "_timestamp", "epoch", "trainer/global_step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained and tested without a login, in a process of its own, as users do."""
    home = tmp_path_factory.mktemp("home")
    arguments = [*RUN, f"--log_dir={home}", "--ckpt_path=last"]
    script = f"from fusion_lightning.main import main; fit = main(['fit', '--log_checkpoints=true', *{arguments}]); "
    script += f"import sys; sys.exit(fit or main(['test', *{arguments}]))"
    subprocess.run([sys.executable, "-c", script], env=wandb_files.logged_out(home), check=True)
    return home / "cled_stage1" / "r"


@pytest.mark.parametrize(("number", "verb"), [(0, "fit"), (1, "test")])
def test_every_scalar_is_recorded_once(folder: Path, number: int, verb: str) -> None:
    recorded: Counter[tuple[int, str, float]] = Counter()
    for row in wandb_files.history(folder, number):
        for key, value in row.items():
            if key not in INTERNAL and isinstance(value, float | int) and "." not in key:
                recorded[int(row["trainer/global_step"]), key, round(value, 6)] += 1
    expected: Counter[tuple[int, str, float]] = Counter()
    with (folder / "csv" / verb / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for key, text in row.items():
                if key not in ("epoch", "step") and text:
                    expected[int(row["step"]), key, round(float(text), 6)] += 1
    assert recorded == expected
    assert set(recorded.values()) == {1}
    assert {"train/loss", "train/residual_a", "val/PSNR_restored"} <= {key for _, key, _ in recorded} or verb == "test"


@pytest.mark.parametrize(("number", "name"), [(0, "config.yaml"), (1, "config-2.yaml")])
def test_the_whole_configuration_is_recorded(folder: Path, number: int, name: str) -> None:
    recorded = wandb_files.config(folder, number)
    expected = json.loads(json.dumps(yaml.safe_load((folder / name).read_text())))
    assert {key: recorded[key] for key in expected} == expected
    assert recorded["model"]["init_args"]["size"] == "tiny"
    assert recorded["code"]["fusion_lightning"]
    assert f"torch {recorded['code']['torch']}" in (folder / name).read_text().splitlines()[0]
    assert set(recorded) - set(expected) <= {"code", "devices", "nodes", "_wandb"}


@pytest.mark.parametrize(("number", "stage"), [(0, "val"), (1, "test")])
def test_every_picture_is_recorded_once(folder: Path, number: int, stage: str) -> None:
    (record,) = (path.parent for path in sorted(folder.glob("wandb/*run-*/*.wandb"))[number : number + 1])
    history = wandb_files.history(folder, number)
    for key in (f"{stage}/previews", f"{stage}/trajectory"):
        (row,) = (row for row in history if f"{key}._type" in row)
        (name,) = row[f"{key}.filenames"]
        (beside,) = (folder / "pictures").glob(f"{key.replace('/', '-')}*.png")
        assert (cv2.imread(str(record / "files" / name)) == cv2.imread(str(beside))).all()
    assert len(list((record / "files" / "media" / "images").rglob("*.png"))) == 2


def test_the_score_table_is_recorded_once(folder: Path) -> None:
    (row,) = (row for row in wandb_files.history(folder, 1) if "test/scores._type" in row)
    record = sorted(folder.glob("wandb/*run-*/*.wandb"))[1].parent
    table = json.loads((record / "files" / row["test/scores.path"]).read_text())
    with (folder / "scores.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert table["columns"] == header
    assert len(table["data"]) == len(rows) - 1  # all but the mean
    for cells, expected in zip(table["data"], rows, strict=False):
        assert [str(cell) for cell in cells[:2]] == expected[:2]
        assert cells[2:] == pytest.approx([float(text) for text in expected[2:]])


def test_checkpoints_are_recorded_when_asked_for(folder: Path) -> None:
    kinds = Counter(record.WhichOneof("record_type") for record in wandb_files.records(folder))
    assert kinds["artifact"] + kinds["request"] >= 2
    artifacts = [record.artifact for record in wandb_files.records(folder) if record.HasField("artifact")]
    logged = [artifact for artifact in artifacts if artifact.type == "model"]
    assert {artifact.name for artifact in logged} == {"model-r"}
    assert len(logged) == 2  # last and best


def test_what_wandb_cannot_do_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = loggers.WandbRecord(tmp_path, "experiment", "r", offline=True, checkpoints=False)

    class Broken:
        def log(self, *arguments: Any) -> None:
            raise BrokenPipeError("the service is gone\nwith details")

    record._experiment = Broken()  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="training goes on: the service is gone$"):
        record.log_metrics({"x": 1.0}, step=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record.log_metrics({"x": 2.0}, step=2)


@pytest.fixture
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server of W&B that somebody is logged in to."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    server = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_configdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    yield server
    wandb.teardown()


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["at the start", "in the middle"])
def test_no_outage_stops_a_run(
    outage: str, logged_in: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "_PATIENCE", 20)
    original = SignalCheckpoint.on_train_batch_end

    def fail(self: SignalCheckpoint, trainer: Any, *arguments: Any) -> None:
        original(self, trainer, *arguments)
        if trainer.global_step == 2 and outage == "in the middle":
            assert "UpsertBucket" in logged_in.received
            logged_in.die()

    monkeypatch.setattr(SignalCheckpoint, "on_train_batch_end", fail)
    if outage == "at the start":
        logged_in.die()
    assert main(["fit", *RUN, "--trainer.max_steps=4", f"--log_dir={tmp_path}"]) == 0
    folder = tmp_path / "cled_stage1" / "r"
    assert (folder / "checkpoints" / "last.ckpt").exists()
    with (folder / "csv" / "fit" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 4
    # W&B's own file has it all, to be sent later
    history = wandb_files.history(folder, -1, finished=False)
    assert [row["train/loss"] for row in history if "train/loss" in row] == pytest.approx(losses)


@pytest.mark.slow
def test_training_outlives_wandbs_own_process(tmp_path: Path) -> None:
    script = f"""
import os, subprocess, sys
from fusion_lightning.callbacks import SignalCheckpoint
from fusion_lightning.main import main

original = SignalCheckpoint.on_train_batch_end

def kill(self, trainer, *arguments):
    original(self, trainer, *arguments)
    if trainer.global_step == 2:
        subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "wandb-core"], check=True)

SignalCheckpoint.on_train_batch_end = kill
sys.exit(main(["fit", *{RUN}, "--trainer.max_steps=4", "--log_dir={tmp_path}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=wandb_files.logged_out(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training goes on") == 1
    assert (tmp_path / "cled_stage1" / "r" / "checkpoints" / "last.ckpt").exists()
