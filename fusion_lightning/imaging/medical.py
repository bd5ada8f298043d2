"""DICOM files: pixels in the units that their headers give them."""

from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fusion_lightning.errors import UserError, notice

if TYPE_CHECKING:
    from pydicom import Dataset

Range = tuple[float, float]
_PREAMBLE = 128
_MAGIC = b"DICM"
_SPEAKING = Lock()
"""Threads that read files side by side wait until it is said."""


def is_dicom(content: bytes) -> bool:
    """Whether a file is a DICOM file, whatever its name says."""
    return content[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC


def starts_dicom(path: Path) -> bool:
    """Whether the file of a path is a DICOM file."""
    with path.open("rb") as file:
        return is_dicom(file.read(_PREAMBLE + len(_MAGIC)))


def say_not_for_diagnosis() -> None:
    """Say once what results of medical images are for."""
    with _SPEAKING:
        notice("medical images are read: the results are for research, not for diagnosis")


def read_dicom(path: str, content: bytes, as_suv: bool) -> tuple[np.ndarray, Range | None]:
    """Read one slice.

    Args:
        path: The file, for errors.
        content: What is in it.
        as_suv: Convert the activity of a PET to standardised uptake values, by body weight.

    Returns:
        Pixels (H, W), float64 in the units of the modality (slope and intercept applied), black the lowest; or RGB
        (H, W, 3), uint8. Then the range of grey pixels without slope and intercept; None for all others.

    Raises:
        UserError: If pydicom is not installed, or the file is damaged, holds several frames, or lacks what a
            conversion needs.
    """
    try:
        import pydicom
        from pydicom.pixels.processing import apply_rescale
    except ImportError as error:
        raise UserError(f"`{path}` is a DICOM file: pip install 'fusion_lightning[medical]' to read it") from error
    say_not_for_diagnosis()
    try:
        header = pydicom.dcmread(BytesIO(content))
        pixels = header.pixel_array
        rescaled = apply_rescale(pixels, header)
    except Exception as error:  # whatever a damaged header or a missing decoder raises
        raise UserError(f"cannot decode the image `{path}`: {' '.join(str(error).split())}") from error
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise UserError(f"`{path}` holds {header.NumberOfFrames} frames, but one image is expected: save one of them")
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8 or pixels.shape[2] != 3 or header.PhotometricInterpretation != "RGB":
            raise UserError(f"`{path}` holds {header.PhotometricInterpretation} pixels: save it as grey or 8-bit RGB")
        return pixels, None
    values = rescaled.astype(np.float64)
    bare = pixels.dtype.kind == "u" and header.get("RescaleSlope") is None
    full = (0.0, 2.0**header.BitsStored - 1) if bare else None
    if header.PhotometricInterpretation == "MONOCHROME1":  # the lowest value is white
        values = (full[1] if full else values.max() + values.min()) - values
    return (values * _suv_factor(path, header), None) if as_suv else (values, full)


class SlicePlace(NamedTuple):
    """Where a slice lies in the patient, in millimetres to the left, to the back and upwards."""

    corner: np.ndarray
    """The middle of the first pixel, (3,)."""
    right: np.ndarray
    """The direction of a row from left to right, (3,), of length 1."""
    down: np.ndarray
    """The direction of a column from top to bottom."""
    spacing: tuple[float, float]
    """From row to row and from column to column."""
    series: str
    """What tells the series from others."""

    def parallel(self, other: "SlicePlace") -> bool:
        """Whether the pixels of two slices have the same directions and sizes."""
        mine, its = ([*one.right, *one.down, *one.spacing] for one in (self, other))
        return bool(np.allclose(mine, its, rtol=0, atol=1e-3))


def slice_place(path: str, content: bytes) -> SlicePlace:
    """Where the slice in a DICOM file lies; pydicom has to be there.

    Raises:
        UserError: If the file does not say.
    """
    import pydicom

    header = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
    try:
        corner, directions, spacing = (
            np.array([float(number) for number in header[name].value])
            for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        down, across = spacing
        right, downwards = directions.reshape(2, 3)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"`{path}` does not say where its slice lies (position, orientation, spacing): leave --axis out to fuse "
            "slice files pair by pair"
        ) from error
    return SlicePlace(corner, right, downwards, (down, across), str(header.get("SeriesInstanceUID", "")))


def _suv_factor(path: str, header: "Dataset") -> float:
    """Grams of body weight per becquerel that is left of the dose when the scan begins."""
    try:
        if header.Units != "BQML" or header.DecayCorrection != "START":
            raise UserError(f"`{path}` holds {header.Units}: standardised uptake values need BQML, corrected to START")
        dose = header.RadiopharmaceuticalInformationSequence[0]
        waited = _seconds(header.SeriesTime) - _seconds(dose.RadiopharmaceuticalStartTime)
        left = float(dose.RadionuclideTotalDose) * 2 ** (-waited / float(dose.RadionuclideHalfLife))
        return 1000 * float(header.PatientWeight) / left
    except (AttributeError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"`{path}` lacks what standardised uptake values are computed from (weight, dose, half-life, times): name "
            "a raw window"
        ) from error


def _seconds(time: str) -> float:
    """Seconds since midnight of HHMMSS.FFF."""
    return 3600 * int(str(time)[:2]) + 60 * int(str(time)[2:4]) + float(str(time)[4:] or 0)
