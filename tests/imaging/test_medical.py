"""DICOM slices against closed forms: slope and intercept, inverted greys, uptake values."""

from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.commands.fuse import fuse
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image
from fusion_lightning.imaging.windows import Window
from tests.dicom import uptake_fields, write_dicom

COUNTS = (np.arange(24 * 32).reshape(24, 32) * 4 % 4096).astype(np.uint16)


def test_slope_and_intercept_give_the_units(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ct.dcm", COUNTS, RescaleSlope=2, RescaleIntercept=-1024)
    units = COUNTS.astype(float) * 2 - 1024
    with pytest.raises(UserError, match=r"holds values from -1024 to .*: name its tone window"):
        read_image(path, 1)
    read = read_image(path, 1, Window("raw:-160,240"))[..., 0]
    np.testing.assert_allclose(read, ((units + 160) / 400).clip(0, 1), atol=1e-6)


def test_bare_counts_have_the_range_of_their_bits(tmp_path: Path) -> None:
    np.testing.assert_allclose(read_image(write_dicom(tmp_path / "x.dcm", COUNTS), 1)[..., 0], COUNTS / 4095, atol=1e-6)
    inverted = read_image(write_dicom(tmp_path / "y.dcm", COUNTS, PhotometricInterpretation="MONOCHROME1"), 1)[..., 0]
    np.testing.assert_allclose(inverted, 1 - COUNTS / 4095, atol=1e-6)


def test_uptake_values_are_activity_by_weight_over_the_dose_that_is_left(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "pet.dcm", COUNTS, **uptake_fields())
    uptake = COUNTS.astype(float) * 10 * 70000 / (370e6 * 0.5 ** (3600 / 6586.2))
    read = read_image(path, 1, Window("suv:0,8"))[..., 0]
    np.testing.assert_allclose(read, (uptake / 8).clip(0, 1), atol=1e-6)
    with pytest.raises(UserError, match="lacks what standardised uptake values"):
        read_image(
            write_dicom(tmp_path / "ct.dcm", COUNTS, Units="BQML", DecayCorrection="START"), 1, Window("suv:0,8")
        )


def test_a_damaged_or_many_framed_file_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", COUNTS)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"cannot decode the image `.*x\.dcm`"):
        read_image(path, 1)
    with pytest.raises(UserError, match="holds 2 frames"):
        read_image(write_dicom(tmp_path / "y.dcm", COUNTS.reshape(24, 32), NumberOfFrames=2, Rows=12), 1)


def test_grey_pet_is_drawn_hot_over_grey_mri(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pet, mri = write_dicom(tmp_path / "pet.dcm", COUNTS), write_dicom(tmp_path / "mri.dcm", COUNTS[::-1].copy())
    fuse(str(pet), str(mri), str(tmp_path / "out"), method="overlay:0.5", colormap_a="hot", device="cpu")
    fused = read_image(tmp_path / "out" / "pet.png")
    assert fused.shape == (24, 32, 3)
    # where the PET is black the overlay is half the MRI, and a hot colour has red before green before blue
    at = np.unravel_index(COUNTS.argmin(), COUNTS.shape)
    assert abs(float(fused[at][2]) - 0.5 * 255 * COUNTS[::-1][at] / 4095) <= 1
    assert (fused[..., 0].astype(int) >= fused[..., 2]).all()
    with pytest.raises(UserError, match=r"--colormap-a"):
        fuse(str(pet), str(mri), str(tmp_path / "new"), colormap_a="mud", device="cpu")
