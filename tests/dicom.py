"""DICOM files as scanners write them, small."""

from pathlib import Path

import numpy as np
import pytest


def write_dicom(path: Path, counts: np.ndarray, **fields: object) -> Path:
    """A slice of 12 bits."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.Rows, header.Columns = counts.shape
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelData = counts.tobytes()
    for name, value in fields.items():
        setattr(header, name, value)
    pydicom.dcmwrite(path, header, enforce_file_format=True)
    return path


def uptake_fields() -> dict[str, object]:
    """What standardised uptake values follow from: 370 MBq an hour before the series, 70 kg, ten Bq/ml a count."""
    from pydicom.dataset import Dataset

    dose = Dataset()
    dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = 370e6, 6586.2
    dose.RadiopharmaceuticalStartTime = "100000"
    return {
        "Units": "BQML", "DecayCorrection": "START", "PatientWeight": "70", "SeriesTime": "110000.00",
        "RescaleSlope": 10, "RescaleIntercept": 0, "RadiopharmaceuticalInformationSequence": [dose],
    }  # fmt: skip
