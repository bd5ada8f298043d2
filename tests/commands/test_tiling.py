"""Images fused tile by tile."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, collate
from fusion_lightning.commands import tiling
from fusion_lightning.commands.tiling import check_tile, find_tile, fuse_in_tiles
from fusion_lightning.errors import UserError
from fusion_lightning.main import main
from fusion_lightning.methods import IFCNN, Average, CLEDStage1, DRFusion, FusionMethod, U2Fusion

from ..conftest import save


def _batch(height: int, width: int, factor: int = 1) -> FusionBatch:
    """A smooth pair with detail; source a is smaller by a factor that its degradation tells of."""
    generator = torch.Generator().manual_seed(0)

    def image(channels: int, *size: int) -> torch.Tensor:
        coarse = torch.rand(1, channels, 9, 11, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
        return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)[0]

    a, b = image(1, height // factor, width // factor), image(3, height, width)
    effect = [{"name": "downsample", "params": {"factor": factor, "method": "area", "up": False}}] if factor > 1 else []
    degradation = {"scenario": "declared", "a": effect, "b": []}
    return collate(
        [{"source_a": a, "source_b": b, "clean_a": a, "clean_b": b, "degradation": degradation, "name": "x"}]
    )


@pytest.mark.parametrize("method", [Average(), IFCNN(), U2Fusion()], ids=lambda method: type(method).__name__)
@torch.inference_mode()
def test_methods_that_see_a_neighbourhood_give_what_they_give_for_the_whole_image(method: FusionMethod) -> None:
    batch = _batch(192, 270)
    assert not method.sees_whole_image
    whole, tiled = method.eval()(batch)["fused"], fuse_in_tiles(method, batch, None, 192)["fused"]
    assert whole.shape == tiled.shape
    assert (whole - tiled).abs().max() < 1 / 255
    assert whole.std() > 0.01


class _Mean(FusionMethod):
    """The mean of what it sees of source a: as global as can be."""

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        return FusionOutput(fused=batch["source_a"].mean(dim=(2, 3), keepdim=True).expand_as(batch["source_a"]))


def test_tiles_that_disagree_join_by_a_ramp() -> None:
    batch = _batch(100, 320)
    batch["source_a"] = torch.linspace(0, 1, 320).expand(1, 1, 100, 320)
    fused = fuse_in_tiles(_Mean(), batch, None, 192)["fused"][0, 0]
    left, right = batch["source_a"][0, 0, 0, :192].mean(), batch["source_a"][0, 0, 0, 128:].mean()
    torch.testing.assert_close(fused[:, : 128 + 24], left.expand(100, 152))
    torch.testing.assert_close(fused[:, 128 + 40 :], right.expand(100, 152))
    torch.testing.assert_close(fused.diff(dim=1).max(), (right - left) / 16)


@torch.inference_mode()
def test_a_smaller_source_is_cut_where_it_belongs() -> None:
    method, batch = DRFusion("tiny", timesteps=1, projection="none").eval(), _batch(256, 192, factor=4)
    whole, tiled = method(batch), fuse_in_tiles(method, batch, None, 192)  # untrained: the pseudo-inverses themselves
    assert tiled["restored_a"].shape == (1, 1, 256, 192)
    assert (whole["restored_a"] - tiled["restored_a"]).abs().max() < 1 / 255
    odd = _batch(256, 192)
    odd["source_a"] = odd["source_a"][..., :100, :100]
    with pytest.raises(UserError, match="give --tile 0"):
        fuse_in_tiles(method, odd, None, 192)


def test_the_free_memory_decides_unless_the_user_does(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = U2Fusion(), _batch(600, 800)
    monkeypatch.setattr(tiling, "_free_memory", lambda device: 32 << 30)
    assert find_tile(None, method, batch) is None
    assert find_tile(192, method, batch) == 192
    assert find_tile(1024, method, batch) is None
    monkeypatch.setattr(tiling, "_free_memory", lambda device: 2 << 30)
    assert find_tile(None, method, batch) == 320
    assert find_tile(0, method, batch) is None
    assert find_tile(None, Average(), batch) is None
    monkeypatch.setattr(tiling, "_free_memory", lambda device: None)
    assert find_tile(None, method, batch) is None
    for side in (100, 128, -64):
        with pytest.raises(UserError, match="multiple of 64"):
            check_tile(side)


def test_fuse_writes_the_tiled_image_and_says_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = _batch(120, 250)
    for side in "ab":
        image = (255 * batch[f"source_{side}"][0].permute(1, 2, 0)).numpy().astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{side}.png"), image)
    command = f"fuse --source-a {tmp_path}/a.png --source-b {tmp_path}/b.png --output {tmp_path}/out --restored"
    checkpoint = save(CLEDStage1(size="tiny", sampling_steps=1), tmp_path / "stage1.ckpt")
    assert main([*command.split(), "--checkpoint", checkpoint, "--tile", "192"]) == 0
    assert "CLEDStage1 looks at the whole image" in capsys.readouterr().err
    (restored,) = (tmp_path / "out" / "restored_b").iterdir()
    assert cv2.imread(str(restored)).shape == (120, 250, 3)
    assert main([*command.split(), "--checkpoint", checkpoint, "--tile", "100", "--overwrite"]) == 1
    assert "--tile must be a multiple of 64" in capsys.readouterr().err
