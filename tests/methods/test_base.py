"""What every method gets from its base class."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from fusion_lightning.batch import FusionBatch
from fusion_lightning.callbacks import ScoreTable
from fusion_lightning.callbacks.scores import score_table
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.resize import same_size
from fusion_lightning.methods import Average, CLEDStage1, FusionMethod, load_method, read_checkpoint

from .conftest import make_batch


class Perfect(FusionMethod):
    """Returns the clean sources as its restoration."""

    def fuse(self, batch: FusionBatch, controls: object = None) -> dict[str, torch.Tensor]:
        return {"restored_a": batch["source_a"] / 2, "restored_b": batch["clean_b"] + 0.1}


def test_restoration_is_scored_where_something_went_wrong() -> None:
    batch = make_batch(["one", "two"], size=(32, 32))
    batch["source_b"][1] = batch["clean_b"][1]
    method = Perfect()
    logged: list[str] = []
    method.log = lambda key, *args, **kwargs: logged.append(key)
    first, second = method.test_step(batch, 0)["rows"]
    assert first["scores"]["PSNR_b"] == pytest.approx(20, abs=1e-3)  # an error of 0.1 everywhere
    assert "PSNR_b" not in second["scores"]
    assert "test/PSNR_restored" in logged
    mean = float(method.scores["test"]["PSNR_restored"].compute())
    parts = [first["scores"]["PSNR_a"], first["scores"]["PSNR_b"], second["scores"]["PSNR_a"]]
    assert mean == pytest.approx(sum(parts) / 3, abs=1e-4)


def test_the_table_leaves_undefined_scores_out_of_the_mean() -> None:
    rows = [
        {"name": "x", "scenario": "noise", "scores": {"MI": 1.0, "SCD": math.nan}},
        {"name": "y", "scenario": "noise", "scores": {"MI": 3.0, "SCD": 0.5}},
    ]
    header, _, _, mean = score_table(rows)
    assert header == ["name", "scenario", "MI", "SCD"]
    assert mean == ["mean", "", 2.0, 0.5]


def test_an_earlier_table_is_set_aside(tmp_path: Path) -> None:
    data = FusionData(length=8, scene_size=64, scenarios=["clean"], batch_size=1, num_workers=0)
    for _ in range(2):
        trainer = Trainer(
            logger=False, accelerator="cpu", callbacks=[ScoreTable(str(tmp_path))], enable_progress_bar=False
        )
        trainer.test(Average(), datamodule=data, verbose=False)
    assert (tmp_path / "scores.csv").read_text() == (tmp_path / "scores-2.csv").read_text()
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(UserError, match="Qabff"):
        Average(metrics=["Qabff"])


def test_same_size_enlarges_the_smaller_image() -> None:
    small, large = same_size(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 16, 24))
    assert small.shape[-2:] == large.shape[-2:] == (16, 24)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint", "cannot be read"),
        ({"state_dict": {}}, "not written by a fusion method"),
        ({"state_dict": {}, "method": "Elsewhere", "hyper_parameters": {}}, "not known here"),
        ({"state_dict": {}, "method": "CLEDStage1", "hyper_parameters": {"size": "tiny"}}, "does not fit"),
        ({"state_dict": {}, "method": "CLEDStage1", "hyper_parameters": {"old": 1}}, "does not fit"),
    ],
)
def test_a_bad_checkpoint_is_named(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=words) as refusal:
        load_method(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint("nowhere.ckpt")


def test_weights_are_channels_last_and_frozen_ones_are_not_optimized() -> None:
    method = CLEDStage1(size="tiny")
    method.setup("fit")
    assert method.restorer.residual_networks["shared"].stem.weight.is_contiguous(memory_format=torch.channels_last)
    method.requires_grad_(False)
    method.restorer.residual_networks["shared"].head.requires_grad_(True)
    (group,) = method.configure_optimizers().param_groups
    assert len(group["params"]) == 2


def test_scores_do_not_feel_mixed_precision() -> None:
    batch = make_batch(["one", "two"], size=(48, 48))
    method = Average()
    full = [row["scores"] for row in method.test_step(batch, 0)["rows"]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [row["scores"] for row in method.test_step(batch, 0)["rows"]]
    assert full == mixed
