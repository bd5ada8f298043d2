"""Restorers, and the cascade of one with a fuser."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.methods import (
    Average,
    ClassicalRestorer,
    Controls,
    LaplacianPyramid,
    RestoreThenFuse,
    Restormer,
    build_method,
)
from fusion_lightning.metrics.functional import psnr_to

from ..conftest import save
from .conftest import make_batch


def _scene(scenario: str) -> FusionBatch:
    data = FusionData(length=8, scene_size=96, scenarios=[scenario], batch_size=1, num_workers=0, crop_size=None)
    data.setup("test")
    return next(iter(data.test_dataloader()))


@pytest.mark.parametrize("denoiser", ["nlm", "bilateral"])
@pytest.mark.parametrize("scenario", ["drfusion_noise", "drfusion_blur", "drfusion_composite"])
def test_textbook_filters_bring_the_sources_nearer_to_the_clean_ones(scenario: str, denoiser: str) -> None:
    batch = _scene(scenario)
    restored = ClassicalRestorer(denoiser).fuse(batch)
    before = float(psnr_to(batch["source_b"], batch["clean_b"]))
    assert float(psnr_to(restored["restored_b"], batch["clean_b"])) > before + 1
    assert restored["restored_a"].shape == batch["clean_a"].shape


def test_what_is_not_known_is_left_alone(batch: FusionBatch) -> None:
    restored = ClassicalRestorer().fuse(batch)  # its degradation is not recorded
    assert torch.equal(restored["restored_b"], batch["source_b"])


def test_an_untrained_network_changes_nothing_and_then_learns() -> None:
    batch = make_batch(["one", "two"], (19, 23))
    method = Restormer(size="tiny")
    seen = []
    method.log_dict = lambda losses, **kwargs: seen.append(float(losses["train/loss"]))
    with torch.no_grad():
        torch.testing.assert_close(method.fuse(batch)["restored_b"], batch["source_b"])
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    for _ in range(12):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert seen[-1] < 0.9 * seen[0]


def test_the_cascade_is_one_after_the_other() -> None:
    batch = _scene("drfusion_noise")
    restored = ClassicalRestorer("bilateral").fuse(batch)
    cascade = RestoreThenFuse({"class_path": "ClassicalRestorer", "init_args": {"denoiser": "bilateral"}}, "Average")
    output = cascade.fuse(batch)
    both = {"source_a": restored["restored_a"], "source_b": restored["restored_b"]}
    assert torch.equal(output["fused"], Average().fuse({**batch, **both})["fused"])
    assert torch.equal(output["restored_a"], restored["restored_a"])


def test_parts_come_from_checkpoints(tmp_path: Path, batch: FusionBatch) -> None:
    checkpoint = save(Restormer(size="tiny"), tmp_path / "restormer.ckpt")
    cascade = RestoreThenFuse(checkpoint, "LaplacianPyramid")
    with torch.no_grad():
        fused = cascade.fuse(batch)["fused"]
    np.testing.assert_allclose(fused, LaplacianPyramid().fuse(batch)["fused"], atol=1e-6)
    assert not any(parameter.requires_grad for parameter in cascade.parameters())


def test_parts_that_do_not_fit_are_refused(batch: FusionBatch) -> None:
    with pytest.raises(UserError, match="`restorer` must restore"):
        RestoreThenFuse("Average", "Average").fuse(batch)
    with pytest.raises(UserError, match="`fuser` must fuse"):
        RestoreThenFuse("ClassicalRestorer", "ClassicalRestorer").fuse(batch)
    with pytest.raises(UserError, match="no strength or balance"):
        RestoreThenFuse().fuse(batch, Controls(balance=0.1))


@pytest.mark.parametrize(
    ("specification", "words"),
    [
        ("Averge", "there is no method 'Averge': did you mean `Average`"),
        ("nothing", "there is no method 'nothing': `list methods` shows all, checkpoints end in .ckpt$"),
        ("nowhere.ckpt", "there is no checkpoint"),
        ({"class_path": "Average", "init_args": {"wide": 1}}, "Average cannot be built"),
        ({"class": "Average"}, "a method must be"),
        ("Restormer", "has to be trained first"),
    ],
)
def test_a_wrong_specification_is_named(specification: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_method(specification)
