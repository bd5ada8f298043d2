"""The effect `misalign`: what its parameters say is what happens, and can be undone."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.degradations import degrade, misalignment, parse, reapply, true_warps
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.convert import to_tensor

STILL = "rotation=0, scale=0, shear=0, bend=0"


def _batch(image: np.ndarray, text: str) -> FusionBatch:
    moved, effects = degrade(image, parse(text), np.random.default_rng(3))
    a, b = to_tensor(moved)[None], to_tensor(image)[None]
    degradation = [{"scenario": "x", "a": effects, "b": []}]
    return FusionBatch(source_a=a, source_b=b, clean_a=b, clean_b=b, degradation=degradation, name=["x"])  # type: ignore[typeddict-item]


def _smooth(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).random((height, width, 1), dtype=np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 1, cv2.NORM_MINMAX)[..., None]  # type: ignore[call-overload]


def test_a_shift_takes_what_is_beside() -> None:
    image = np.random.default_rng(0).random((30, 40, 3), dtype=np.float32)
    right, _ = degrade(image, parse(f"misalign(shift=5, direction=0, {STILL})"), np.random.default_rng(0))
    np.testing.assert_allclose(right[:, :-5], image[:, 5:], atol=1e-4)
    np.testing.assert_allclose(right[:, -5:], np.repeat(image[:, -1:], 5, axis=1), atol=1e-4)
    down, _ = degrade(image, parse(f"misalign(shift=3, direction=90, {STILL})"), np.random.default_rng(0))
    np.testing.assert_allclose(down[:-3], image[3:], atol=1e-4)


def test_a_turn_moves_every_pixel_as_far_as_it_lies_from_the_centre() -> None:
    params = {"shift": 0, "direction": 0, "rotation": 6.0, "scale": 0, "shear": 0, "bend": 0, "seed": 0}
    x, y = misalignment(params, (31, 41))
    down, right = np.mgrid[:31, :41]
    distance = np.hypot(x - right, y - down)
    np.testing.assert_allclose(distance, 2 * np.sin(np.radians(3)) * np.hypot(right - 20, down - 15), atol=1e-4)
    assert x[0, 20] > 20  # clockwise: what is above comes from the right


def test_a_bend_is_as_long_as_it_says() -> None:
    params = {"shift": 0, "direction": 0, "rotation": 0, "scale": 0, "shear": 0, "bend": 2.5, "seed": 7}
    moved = misalignment(params, (64, 96)) - np.mgrid[:64, :96][::-1]
    assert np.sqrt(np.square(moved).sum(axis=0).mean()) == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize("text", ["misalign", "noise(sigma=1)+misalign@2", "misalign@2+misalign@3"])
def test_true_warps_undo_what_was_done(text: str) -> None:
    image = _smooth(160, 200)
    batch = _batch(image, text)
    warp = true_warps(batch)
    back = warps.sample(batch["source_a"], warp)
    valid = warps.inside(warp, (160, 200)) & (torch.ones(1, 1, 160, 200) > 0)
    moved = (batch["source_a"] - batch["clean_a"]).abs()[valid].mean()
    left = (back - batch["clean_a"]).abs()[valid].mean()
    assert left < 0.15 * moved


def test_the_identity_is_true_where_nothing_was_moved() -> None:
    batch = _batch(_smooth(32, 40), "noise")
    torch.testing.assert_close(true_warps(batch), warps.identity((32, 40), batch["source_a"]))


def test_parameters_rebuild_the_same_pixels() -> None:
    image = _smooth(50, 60)
    moved, effects = degrade(image, parse("misalign@4"), np.random.default_rng(0))
    x, y = misalignment(effects[0]["params"], image.shape[:2])
    expected = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_array_equal(moved[..., 0], expected)
    np.testing.assert_array_equal(reapply(image, effects), moved)


@pytest.mark.parametrize("kind", ["RoadScene/val/cropinfrared", "MSRS/train/ir"])
def test_published_warps_give_the_published_images(shared: Path, kind: str) -> None:
    """`warps.sample` on flow fields that others drew and applied."""
    data = kind.split("/")[0]
    found = 0
    for path in sorted((shared / "published" / "SuperFusion" / data / "flow").glob("*.png")):
        clean = [file for file in (shared / "data" / data).rglob(f"{path.stem}.*") if file.parent.name in kind]
        if not clean:
            continue
        found += 1
        flow = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float32)
        displacement = torch.from_numpy((flow[..., :2] - 32768) / 64).permute(2, 0, 1)[None]
        image = torch.from_numpy(cv2.imread(str(clean[0]), cv2.IMREAD_GRAYSCALE)).float()[None, None]
        published = cv2.imread(str(path.parents[1] / "ir_warp" / path.name), cv2.IMREAD_GRAYSCALE)
        warp = warps.identity(image.shape[-2:], image) + displacement
        ours = warps.sample(image, warp)
        valid = warps.inside(warp, image.shape[-2:])
        error = (ours - torch.from_numpy(published)[None, None])[valid].square().mean()
        assert 10 * torch.log10(255**2 / error) >= 52, path
    assert found
