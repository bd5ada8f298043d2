"""`evaluate` on volumes and videos: what it says of their slices and frames as images."""

import csv
from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.commands.evaluate import evaluate
from fusion_lightning.commands.fuse import fuse
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_stored, write_image
from fusion_lightning.imaging.video import write_video

RNG = np.random.default_rng(0)
SIDES = {"a": RNG.integers(0, 256, (5, 21, 31), np.uint8), "b": RNG.integers(0, 256, (5, 21, 31, 3), np.uint8)}
"""Five pictures of each source, (H, W) grey and (H, W, 3) in colour, with odd sides."""


def _rows(table: Path) -> dict[str, list[float]]:
    return {name: list(map(float, scores)) for name, *scores in list(csv.reader(table.open()))[1:]}


def _of_images(folder: Path, sources: dict[str, np.ndarray], fused: np.ndarray) -> list[list[float]]:
    """Scores of the same pictures as PNG files."""
    for name, pictures in {**sources, "fused": fused}.items():
        for number, picture in enumerate(pictures):
            write_image(folder / name / f"{number}.png", picture)
    evaluate(str(folder / "a"), str(folder / "b"), [str(folder / "fused")], "MI,SSIM,MSE", str(folder / "images.csv"))
    return list(_rows(folder / "images.csv").values())


@pytest.mark.parametrize("axis", [None, "coronal"])
def test_slices_are_scored_as_images(tmp_path: Path, axis: str | None) -> None:
    nibabel = pytest.importorskip("nibabel")
    a = SIDES["a"].transpose(2, 1, 0)  # columns, rows, slices
    units = nibabel.Nifti1Image(a.astype(np.int16), np.eye(4))
    units.header.set_slope_inter(2, -100)
    nibabel.save(units, tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(a[::-1].copy(), np.eye(4)), tmp_path / "b.nii")
    places = (str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii"))
    options = {"window_a": "raw:-100,410", "axis": axis}
    fuse(*places, str(tmp_path / "out"), "maximum", device="cpu", **options)  # type: ignore[arg-type]
    table = tmp_path / "scores.csv"
    evaluate(*places, [str(tmp_path / "out" / "a.nii.gz")], "MI,SSIM,MSE", str(table), **options)  # type: ignore[arg-type]
    seen = {"a": a, "b": a[::-1], "fused": np.maximum(a, a[::-1])}
    turned = {side: values.transpose((1, 2, 0) if axis else (2, 1, 0))[:, ::-1, ::-1] for side, values in seen.items()}
    expected = _of_images(tmp_path, {side: turned[side] for side in "ab"}, turned["fused"])
    rows = _rows(table)
    assert list(rows) == [*(f"a/{number}" for number in range(21 if axis else 5)), "mean"]
    np.testing.assert_allclose(list(rows.values()), expected, rtol=1e-5)
    other = nibabel.Nifti1Image(a[:, :, :4].copy(), np.eye(4))
    nibabel.save(other, tmp_path / "other.nii")
    with pytest.raises(UserError, match=r"31×21×5 voxels .* 31×21×4 .*resample_to_img"):
        evaluate(*places, [str(tmp_path / "other.nii")], "MSE", window_a="minmax")
    with pytest.raises(UserError, match="--resize is for images"):
        evaluate(*places, [str(tmp_path / "out" / "a.nii.gz")], "MSE", window_a="minmax", resize="a")


def test_frames_are_scored_as_images(tmp_path: Path) -> None:
    for name, frames in SIDES.items():
        write_video(tmp_path / f"{name}.mkv", frames, 25, "lossless")
    places = (str(tmp_path / "a.mkv"), str(tmp_path / "b.mkv"))
    for form in ("lossless", "frames"):
        fuse(*places, str(tmp_path / "out"), "maximum", frames="1:4", video=form, device="cpu")  # type: ignore[arg-type]
    fused = [str(tmp_path / "out" / "a-1-4.mkv"), str(tmp_path / "out" / "a")]
    evaluate(*places, fused, "MI,SSIM,MSE", str(tmp_path / "scores.csv"), frames="1:4")
    video, folder = (_rows(tmp_path / f"scores-{name}.csv") for name in ("a-1-4.mkv", "a"))
    assert list(video) == ["a/000001", "a/000002", "a/000003", "mean"]
    assert video == folder
    # a video's sides are made even
    sources = {name: np.stack([np.pad(one, [(0, 1), (0, 1), (0, 0)][: one.ndim], mode="edge") for one in frames[1:4]])
               for name, frames in SIDES.items()}  # fmt: skip
    pictures = np.stack([read_stored(str(path), False).pixels for path in sorted((tmp_path / "out" / "a").iterdir())])
    np.testing.assert_allclose(list(video.values()), _of_images(tmp_path, sources, pictures), rtol=1e-5)
    with pytest.raises(UserError, match=r"--fused a-1-4\.mkv has 3 frames, but 5 of its sources belong together"):
        evaluate(*places, fused[:1], "MSE")


def test_options_are_for_their_kind(tmp_path: Path) -> None:
    image = str(tmp_path / "x.png")
    write_image(tmp_path / "x.png", np.zeros((16, 16), np.uint8))
    (tmp_path / "x.mp4").write_bytes(b"x")
    for places, options, words in (
        ((image, image), {"frames": "all"}, "--frames and --sync are for two videos"),
        ((str(tmp_path / "x.mp4"), image), {"axis": "axial"}, "--axis is for volumes"),
        ((str(tmp_path / "x.mp4"), image), {}, "is no video, but the other source is"),
        ((image, image), {"axis": "axial"}, "is no volume: give NIfTI files"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate(*places, [image], "MSE", **options)  # type: ignore[arg-type]
