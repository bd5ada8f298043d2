"""What every method gets from its base class."""

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.methods import Average, CLEDStage1, FusionMethod

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


def test_a_test_logs_the_scores_that_some_image_has() -> None:
    degraded = make_batch(["one", "two"], size=(32, 32))
    clean = {**degraded, "source_a": degraded["clean_a"], "source_b": degraded["clean_b"]}
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    (scores,) = trainer.test(Perfect(), DataLoader([clean], batch_size=None), verbose=False)
    assert scores == {}
    (scores,) = trainer.test(Perfect(), DataLoader([clean, degraded], batch_size=None), verbose=False)
    assert scores["test/PSNR_b"] == pytest.approx(20, abs=1e-3)
    assert len(scores) == 9  # PSNR and SSIM of both, as delivered and as restored, and the mean PSNR
    (scores,) = trainer.validate(Perfect(), DataLoader([clean], batch_size=None), verbose=False)
    assert scores == {}


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(UserError, match="Qabff"):
        Average(metrics=["Qabff"])


def test_weights_are_channels_last_and_frozen_ones_are_not_optimized() -> None:
    method = CLEDStage1(size="tiny")
    method.setup("fit")
    assert method.restorer.residual_networks["shared"].stem.weight.is_contiguous(memory_format=torch.channels_last)
    method.requires_grad_(False)
    method.restorer.residual_networks["shared"].head.requires_grad_(True)
    (group,) = method.configure_optimizers().param_groups
    assert len(group["params"]) == 2


def test_what_has_nothing_to_train_has_no_optimizer() -> None:
    assert Average().configure_optimizers() is None
    assert CLEDStage1(size="tiny").configure_optimizers() is not None


def test_scores_do_not_feel_mixed_precision() -> None:
    batch = make_batch(["one", "two"], size=(48, 48))
    method = Average()
    full = [row["scores"] for row in method.test_step(batch, 0)["rows"]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = [row["scores"] for row in method.test_step(batch, 0)["rows"]]
    assert full == mixed
