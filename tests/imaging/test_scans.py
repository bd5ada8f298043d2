"""Scans are told by their files or by their black ground, and no scene is taken for one."""

from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.datamodules.synthetic import SyntheticPairs
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import write_image
from fusion_lightning.imaging.scans import are_scans


def _written(folder: Path, suffix: str = ".png", **images: np.ndarray) -> list[Path]:
    paths = [folder / f"{name}{suffix}" for name in images]
    for path, image in zip(paths, images.values(), strict=True):
        write_image(path, image)
    return paths


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_scans_are_told_from_scenes(tmp_path: Path, suffix: str) -> None:
    for kind in ("medical", "street"):
        pair = SyntheticPairs(kind, "test", 3, 96)[2]
        assert are_scans(_written(tmp_path, suffix, a=pair.a, b=pair.b)) == (kind == "medical")


def test_one_black_ground_or_two_black_images_are_no_scans(tmp_path: Path) -> None:
    pair = SyntheticPairs("medical", "test", 1, 96)[0]
    grey = np.full((96, 96), 9, np.uint8)
    assert not are_scans(_written(tmp_path, a=pair.a, b=grey))
    assert not are_scans(_written(tmp_path, a=0 * grey, b=0 * grey))  # a film that begins black
    for name in ("a.mp4", "mri.nii.gz"):
        (tmp_path / name).touch()
    assert not are_scans([tmp_path / "a.mp4", tmp_path / "a.mp4"])
    assert are_scans([tmp_path / "a.png", tmp_path / "mri.nii.gz"])
    (tmp_path / "a.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="cannot decode"):
        are_scans([tmp_path / "a.png", tmp_path / "b.png"])
