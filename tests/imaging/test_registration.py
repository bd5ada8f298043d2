"""The classical registration: finds what others moved, and says what it cannot."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.imaging import registration, warps
from fusion_lightning.imaging.registration import align, edge_pyramid, mean_motion, register
from fusion_lightning.metrics.functional import epe, landmark_error


def _grey(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / np.float32(255)


def _scene(seed: int, size: tuple[int, int] = (160, 200)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full(size, 0.4, np.float32)
    for _ in range(25):
        x, y, side = rng.integers(0, size[1]), rng.integers(0, size[0]), rng.integers(8, 40)
        cv2.rectangle(image, (int(x), int(y)), (int(x + side), int(y + side // 2)), float(rng.random()), -1)
    return cv2.GaussianBlur(image, (0, 0), 1)


def _as_warp(matrix: np.ndarray, image: np.ndarray) -> torch.Tensor:
    return warps.from_affine(torch.from_numpy(matrix)[None].float(), image.shape[:2])


def test_a_known_turn_is_found_in_the_negative_of_a_scene() -> None:
    b = _scene(0)
    moved = cv2.getRotationMatrix2D((100, 80), 4, 1.05)
    moved[:, 2] += (5, -3)
    a = cv2.warpAffine(1 - b, moved, (200, 160), borderMode=cv2.BORDER_REPLICATE)
    found = align(a, b)
    assert found.refused is None
    # OpenCV's matrix says where pixels go, ours where they come from: b's pixel p lies in a at `moved` p
    assert epe(_as_warp(found.matrix, b), _as_warp(moved, b)) < 0.5


def test_what_lies_well_stays() -> None:
    b = _scene(1)
    found = align(1 - b, b)
    assert found.refused is not None
    assert found.refused.startswith("its edges agree hardly less as it lies")
    np.testing.assert_array_equal(found.matrix, np.eye(2, 3))
    far = align(np.roll(1 - b, 9, axis=1), b)
    assert far.refused is None
    assert mean_motion(far.matrix, b.shape) == pytest.approx(9, abs=0.3)


def test_no_image_is_turned_upside_down() -> None:
    """A symmetric scene, like a head, agrees with itself turned by half a turn."""
    half = _scene(4)
    b = np.maximum(half, half[::-1, ::-1])
    moved = np.array([[1.0, 0, 5], [0, 1, 3]])
    assert mean_motion(align(cv2.warpAffine(1 - b, moved, (200, 160)), b).matrix, b.shape) < 7
    assert not registration._plausible(np.array([[-1.0, 0, 199], [0, -1, 159]]), b.shape)
    assert registration._plausible(np.array([[1.2, 0.1, -20], [-0.1, 1.2, -16]]), b.shape)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((64, 64), np.float32), _scene(0, (64, 64)), "source a is of one grey level"),
        (_scene(0, (64, 64)), np.ones((64, 64), np.float32), "source b is of one grey level"),
        (_scene(0, (16, 16)), _scene(0, (16, 16)), "a side of less than 32 pixels"),
        (_scene(2), _scene(3), "differ by|agree too little"),
        (np.random.default_rng(0).random((96, 96), np.float32), _scene(0, (96, 96)), "differ by|agree too little"),
    ],
    ids=["black", "white", "tiny", "another scene", "noise"],
)
def test_what_cannot_be_trusted_is_left(a: np.ndarray, b: np.ndarray, message: str) -> None:
    found = align(a, b)
    np.testing.assert_array_equal(found.matrix, np.eye(2, 3))
    assert found.refused is not None
    assert any(part in found.refused for part in message.split("|"))


def test_hand_set_landmarks_come_together(shared: Path) -> None:
    folder = shared / "published" / "MURF" / "RGB-IR"
    a, b = _grey(folder / "moving.png"), _grey(folder / "fixed.png")
    points = torch.from_numpy(np.loadtxt(folder / "landmarks.csv", delimiter=",", skiprows=1)).float()
    warp = _as_warp(align(a, b).matrix, b)
    still = warps.identity(b.shape[:2], warp)
    assert landmark_error(still, points[:, :2], points[:, 2:]) > 9
    assert landmark_error(warp, points[:, :2], points[:, 2:]) <= 2


@pytest.mark.slow
def test_published_warps_are_found(shared: Path) -> None:
    errors = []
    for path in sorted((shared / "published" / "SuperFusion" / "MSRS" / "flow").glob("*.png")):
        flow = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float32)
        moved = torch.from_numpy((flow[..., :2] - 32768) / 64).permute(2, 0, 1)[None]
        known = warps.invert(moved + warps.identity(moved.shape[-2:], moved))
        a = _grey(path.parents[1] / "ir_warp" / path.name)
        b = _grey(next(one for one in (shared / "data" / "MSRS").rglob(path.name) if one.parent.name == "vi"))
        matrix, _ = register(edge_pyramid(a), edge_pyramid(b))
        errors.append([float(epe(_as_warp(one, b), known)) for one in (np.eye(2, 3), matrix)])
    before, after = np.mean(errors, axis=0)
    assert before > 16
    assert after <= 5


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_a_map_survives_the_change_of_size(factor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.array([[1.02, 0.05, 7.0], [-0.04, 0.97, -3.0]])
    monkeypatch.setattr(cv2, "findTransformECC", lambda b, a, scaled, *rest: (1.0, scaled))
    small = np.zeros((160 // factor, 200 // factor), np.float32)
    back = registration._improved(matrix, small, small, factor, cv2.MOTION_AFFINE)
    np.testing.assert_allclose(back, matrix, atol=1e-4)
