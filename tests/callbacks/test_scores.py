"""The score table: means, and tables that are there already."""

import csv
import math
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from fusion_lightning.callbacks import ScoreTable
from fusion_lightning.callbacks.scores import score_table
from fusion_lightning.datamodules import FusionData
from fusion_lightning.methods import Average


def test_the_table_leaves_undefined_scores_out_of_the_mean() -> None:
    rows = [
        {"name": "x", "scenario": "noise", "scores": {"MI": 1.0, "SCD": math.nan}},
        {"name": "y", "scenario": "noise", "scores": {"MI": 3.0, "SCD": 0.5}},
    ]
    header, _, _, mean = score_table(rows)
    assert header == ["name", "scenario", "MI", "SCD"]
    assert mean == ["mean", "", 2.0, 0.5]


def test_scores_are_printed_and_an_earlier_table_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FusionData(length=8, scene_size=64, scenarios=["clean"], batch_size=1, num_workers=0)
    for _ in range(2):
        capsys.readouterr()
        trainer = Trainer(
            logger=False, accelerator="cpu", callbacks=[ScoreTable(str(tmp_path))], enable_progress_bar=False
        )
        trainer.test(Average(), datamodule=data, verbose=False)
    assert (tmp_path / "scores.csv").read_text() == (tmp_path / "scores-2.csv").read_text()
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3
    *_, mean = csv.reader((tmp_path / "scores.csv").read_text().splitlines())
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert f"{float(mean[2]):.4f}" == next(iter(printed.values()))
    assert len(printed) >= len(mean) - 2


def test_a_validation_prints_its_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = FusionData(length=8, scene_size=64, scenarios=["clean"], batch_size=1, num_workers=0)
    trainer = Trainer(logger=False, accelerator="cpu", callbacks=[ScoreTable(str(tmp_path))], enable_progress_bar=False)
    (means,) = trainer.validate(Average(), datamodule=data, verbose=False)
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("val/"))
    assert printed == {name: f"{value:.4f}" for name, value in means.items()}
    assert not (tmp_path / "scores.csv").exists()
