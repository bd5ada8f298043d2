"""`fuse` on volumes against closed forms: values, one window, geometry kept, or one sentence."""

from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.fuse import fuse
from fusion_lightning.commands.fuse.work import Job
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.imaging.volumes import read_volume, slices
from fusion_lightning.main import main
from tests.dicom import write_dicom

nibabel = pytest.importorskip("nibabel")

SHAPE = (20, 24, 6)
# columns run to the patient's left, rows to the front, slices downwards, of 2 × 2.5 × 4 mm, a little oblique
AFFINE = np.array([[-2, 0.1, 0, 90.0], [0.1, 2.5, 0, -126], [0, 0, -4, 72], [0, 0, 0, 1]])
COUNTS = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.int16)


def _save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, slope: float = 1, inter: float = 0) -> Path:
    """A file that holds these values as they are, and a slope and an intercept for them."""
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, inter)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def _fuse(a: Path, b: Path, output: Path, **options: object) -> None:
    fuse(str(a), str(b), str(output), **{"device": "cpu", "method": "average", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [None, "axial", "coronal", "sagittal"])
def test_units_one_window_and_the_place_in_the_patient(tmp_path: Path, axis: str | None) -> None:
    units = COUNTS * 2.0 - 1024
    ct = _save(tmp_path / "ct.nii.gz", COUNTS, slope=2, inter=-1024)
    mri = _save(tmp_path / "mri.nii", np.zeros(SHAPE, np.uint8))
    np.testing.assert_allclose(read_volume(ct).values, units)
    _fuse(ct, mri, tmp_path / "out", axis=axis, window_a="raw:-160,2400", window_b="none", bits=16)
    fused = nibabel.load(tmp_path / "out" / "ct.nii.gz")
    np.testing.assert_allclose(fused.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(fused.header.get_zooms(), np.linalg.norm(AFFINE[:3, :3], axis=0), atol=1e-5)
    assert fused.get_data_dtype() == np.uint16
    expected = ((units + 160) / 2560).clip(0, 1) / 2 * 65535
    assert np.abs(fused.get_fdata() - expected).max() <= 1


def test_the_window_is_that_of_the_volume_not_of_each_slice(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(6, dtype=np.int16) * 100, SHAPE).copy()
    a, b = _save(tmp_path / "a.nii", ramp), _save(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8))
    with pytest.raises(UserError, match=r"a\.nii` holds values from 0 to 500: name its tone window"):
        _fuse(a, b, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    _fuse(a, b, tmp_path / "out", window_a="minmax", method="maximum")
    levels = nibabel.load(tmp_path / "out" / "a.nii.gz").get_fdata()
    np.testing.assert_allclose(levels[3, 3], np.rint(np.arange(6) * 51))


def test_slices_are_seen_upright(tmp_path: Path) -> None:
    volume = read_volume(_save(tmp_path / "x.nii", COUNTS))
    # the first voxel lies at the right, the back and the top of the patient: below on the left, in the last slice
    axial = slices(volume.values, volume.affine, "axial")
    assert axial.shape == (6, 24, 20)
    assert axial[-1, -1, 0] == COUNTS[0, 0, 0]
    coronal = slices(volume.values, volume.affine, "coronal")
    assert coronal.shape == (24, 6, 20)
    assert coronal[0, 0, 0] == COUNTS[0, 0, 0]
    sagittal = slices(volume.values, volume.affine, "sagittal")
    assert sagittal.shape == (20, 6, 24)
    assert sagittal[-1, 0, 0] == COUNTS[0, 0, 0]


def test_a_palette_or_colour_gives_a_volume_in_colour(tmp_path: Path) -> None:
    a = _save(tmp_path / "a.nii", (COUNTS // 16).astype(np.uint8))
    b = _save(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8))
    _fuse(a, b, tmp_path / "out", method="overlay:1", colormap_a="hot")
    fused = read_volume(tmp_path / "out" / "a.nii.gz")
    assert fused.values.shape == (*SHAPE, 3)
    assert (fused.values[..., 0] >= fused.values[..., 2]).all()
    # which is read again, as a source in colour
    _fuse(tmp_path / "out" / "a.nii.gz", b, tmp_path / "again", method="overlay:1")
    np.testing.assert_array_equal(read_volume(tmp_path / "again" / "a.nii.gz").values, fused.values)
    with pytest.raises(UserError, match="--bits 16: NIfTI holds colours of 8 bits"):
        _fuse(a, b, tmp_path / "deep", colormap_a="hot", bits=16)


def test_grids_have_to_agree(tmp_path: Path) -> None:
    a = _save(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8))
    moved = AFFINE.copy()
    moved[0, 3] += 3
    for other, words in (
        (_save(tmp_path / "b.nii", np.zeros((20, 24, 7), np.uint8)), r"20×24×6 voxels .* 20×24×7 .*resample_to_img"),
        (_save(tmp_path / "c.nii", np.zeros(SHAPE, np.uint8), moved), "in other places of the patient"),
        (_save(tmp_path / "d.nii", np.zeros((*SHAPE, 2), np.uint8)), "20×24×6×2, but one volume"),
    ):
        with pytest.raises(UserError, match=words):
            _fuse(a, other, tmp_path / "out")
    cut = tmp_path / "e.nii"
    cut.write_bytes(a.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cannot read the volume `.*e\.nii"):
        _fuse(a, cut, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _series(folder: Path, counts: np.ndarray, **fields: object) -> Path:
    """An axial series, the files in another order than their places; (slices, H, W), bottom first, 3 mm apart."""
    folder.mkdir()
    for number, picture in enumerate(counts):
        place = {"ImagePositionPatient": [-10.0, -20.0, 3.0 * number], "PixelSpacing": [2.0, 1.5]}
        place |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesInstanceUID": "1.2.3"}
        write_dicom(folder / f"{99 - number}.dcm", picture, **{**place, **fields})
    return folder


def test_dicom_slices_become_a_volume_by_their_places(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).integers(0, 4096, (5, 16, 18)).astype(np.uint16)
    ct = _series(tmp_path / "ct", counts, RescaleSlope=2, RescaleIntercept=-1024)
    mri = _series(tmp_path / "mri", np.zeros_like(counts))
    _fuse(ct, mri, tmp_path / "out", axis="coronal", window_a="raw:-1000,3000", bits=16)
    fused = nibabel.load(tmp_path / "out" / "ct.nii.gz")
    expected = ((counts.transpose(2, 1, 0) * 2.0 - 1024 + 1000) / 4000).clip(0, 1) / 2 * 65535
    assert np.abs(fused.get_fdata() - expected).max() <= 1
    # DICOM measures to the left and the back, NIfTI to the right and the front
    expected_affine = [[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(fused.affine, expected_affine, atol=1e-5)
    # a NIfTI file of the same grid goes with the series
    _fuse(ct, _save(tmp_path / "m.nii", np.zeros((18, 16, 5), np.uint8), np.array(expected_affine)), tmp_path / "mixed",
          axis="axial", window_a="minmax")  # fmt: skip
    (ct / "DICOMDIR").write_bytes((ct / "97.dcm").read_bytes())  # the index of a medium, and what a Mac leaves
    (ct / "._1.dcm").write_bytes(b"x")
    assert read_volume(ct).values.shape == (18, 16, 5)
    (ct / "97.dcm").unlink()
    with pytest.raises(UserError, match=r"are 3 to 6 mm apart: some are missing"):
        _fuse(ct, mri, tmp_path / "new", axis="axial", window_a="minmax")


def test_folders_of_volumes_are_paired_and_done_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("s1", "s2"):
        _save(tmp_path / "pet" / f"{name}_PET.nii.gz", (COUNTS // 16).astype(np.uint8))
        _save(tmp_path / "mri" / f"{name}_MRI.nii.gz", (COUNTS // 20).astype(np.uint8))
    line = ["fuse", "--source-a", str(tmp_path / "pet"), "--source-b", str(tmp_path / "mri"), "--method", "average"]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "2 volumes fused" in printed.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fuse.jsonl", "s1.nii.gz", "s2.nii.gz"]
    before = (tmp_path / "out" / "s1.nii.gz").stat().st_mtime_ns
    (tmp_path / "out" / "s2.nii.gz").unlink()
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    assert "(1 were there already)" in capsys.readouterr().out
    assert (tmp_path / "out" / "s1.nii.gz").stat().st_mtime_ns == before
    assert main([*line, "--output", str(tmp_path / "out"), "--axis", "coronal"]) == 1
    assert "is already there: choose another --output" in capsys.readouterr().err


def test_a_volume_goes_on_with_the_slice_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = _save(tmp_path / "a.nii", (COUNTS // 16).astype(np.uint8))
    b = _save(tmp_path / "b.nii", np.zeros(SHAPE, np.uint8))
    options: dict[str, object] = {"method": "overlay:0.5", "colormap_a": "hot"}
    _fuse(a, b, tmp_path / "whole", **options)
    fused: list[str] = []
    fuse_one = Job.fuse

    def stopped(job: Job, batch: FusionBatch) -> dict[str, np.ndarray]:
        if len(fused) == 4:
            raise KeyboardInterrupt
        fused.append("one")
        return fuse_one(job, batch)

    monkeypatch.setattr(Job, "fuse", stopped)
    with pytest.raises(KeyboardInterrupt):
        _fuse(a, b, tmp_path / "out", **options)
    assert len(list((tmp_path / "out" / "a").iterdir())) == 4
    with pytest.raises(UserError, match=r"a/000000\.png is already there"):
        _fuse(a, b, tmp_path / "out", **{**options, "colormap_a": "jet"})
    fused.clear()
    _fuse(a, b, tmp_path / "out", **options)
    assert len(fused) == SHAPE[2] - 4
    for name in ("a.nii.gz", "fuse.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.nii.gz", "fuse.jsonl"]


def test_where_volumes_and_videos_are_not_taken_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("ir", "vi"):
        _save(tmp_path / "set" / folder / "1.nii.gz", np.zeros(SHAPE, np.uint8))
        (tmp_path / "set" / folder / "2.mp4").write_bytes(b"x")
    volume = str(tmp_path / "set" / "ir" / "1.nii.gz")
    with pytest.raises(UserError, match=r"is a volume, which only `fuse` and `evaluate` take: save its slices"):
        read_image(volume)
    line = ["degrade", "--input", str(tmp_path / "set"), "--output", str(tmp_path / "out"), "--scenario", "blur"]
    assert main(line) == 1
    assert "volumes are for `fuse` and `evaluate`, save the slices as images" in capsys.readouterr().err
    with pytest.raises(UserError, match="no images in"):
        FusionData(str(tmp_path / "set"), {"a": "ir", "b": "vi"}).setup("test")
    write_image(tmp_path / "x.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match="is no volume: give NIfTI files"):
        _fuse(Path(volume), tmp_path / "x.png", tmp_path / "out")
