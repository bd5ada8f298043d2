"""Volumes: NIfTI files and folders of DICOM slices, as voxels with a place in the patient."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.medical import Range, read_dicom, say_not_for_diagnosis, slice_place, starts_dicom
from fusion_lightning.text import counted

Axis = Literal["axial", "coronal", "sagittal"]

NIFTI = (".nii", ".nii.gz")
"""Endings of NIfTI files."""

_SLICED = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Axis of a volume in the order right, anterior, superior that slices of each kind are taken along."""
_SAME = 1e-3
"""Millimetres within which two grids, or the gaps between slices, are the same; an affine's entries, too."""


class Volume(NamedTuple):
    """Voxels and where they lie."""

    values: np.ndarray
    """(I, J, K), in units where the file has a slope or an intercept; or RGB (I, J, K, 3), uint8."""
    affine: np.ndarray
    """(4, 4), from voxels to millimetres to the right, to the front and upwards in the patient (RAS)."""
    full: Range | None
    """The range of the file's type; None if it has none."""
    path: str

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres from voxel to voxel, (3,)."""
        lengths: np.ndarray = np.linalg.norm(self.affine[:3, :3], axis=0)
        return lengths


def is_nifti(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is NIfTI."""
    return os.fspath(path).lower().endswith(NIFTI)


def is_medical(path: Path) -> bool:
    """Whether a file is NIfTI or DICOM."""
    return is_nifti(path) or starts_dicom(path)


def read_volume(path: Path, as_suv: bool = False) -> Volume:
    """Read a NIfTI file, or the slices of a folder of DICOM files.

    Args:
        path: The file or folder.
        as_suv: Convert the activity of a DICOM PET to standardised uptake values.

    Raises:
        UserError: If nibabel or pydicom is not installed, the file is damaged or no volume of three dimensions, or the
            slices are not all of one series, evenly spaced.
    """
    return _read_slices(path, as_suv) if path.is_dir() else _read_nifti(path)


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, whatever they are called, but for the index of a medium."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and path.name.upper() != "DICOMDIR" and starts_dicom(path)
    ]


def check_grids(a: Volume, b: Volume) -> None:
    """Refuse volumes whose voxels do not lie in the same places.

    Raises:
        UserError: If they differ in shape or affine.
    """
    if a.values.shape[:3] == b.values.shape[:3] and np.allclose(a.affine, b.affine, rtol=0, atol=_SAME):
        return
    grids = [
        f"`{one.path}` has {'×'.join(map(str, one.values.shape[:3]))} voxels of "
        f"{'×'.join(f'{length:.4g}' for length in one.spacing)} mm"
        for one in (a, b)
    ]
    same = " in other places of the patient" if grids[0].split("` ")[1] == grids[1].split("` ")[1] else ""
    raise UserError(
        f"{' and '.join(grids)}{same}: bring one to the grid of the other first (FSL flirt, ANTs, SPM or nilearn's "
        "resample_to_img)"
    )


def slices(values: np.ndarray, affine: np.ndarray, axis: Axis) -> np.ndarray:
    """The slices of a volume as they are looked at: front or top above, the patient's right side, or back, at the left.

    Args:
        values: (I, J, K) or (I, J, K, C).
        affine: Where they lie; an oblique volume is cut along its own axis that is closest.
        axis: What kind of slices.

    Returns:
        A view (slices, H, W) or (slices, H, W, C) of the values, from left, back or bottom on; writing into it writes
        into them.
    """
    order, flips = _orientation(affine)
    turned = values.transpose(*order, *range(3, values.ndim))[tuple(slice(None, None, flip) for flip in flips)]
    stacked = np.moveaxis(turned, _SLICED[axis], 0)  # then columns to the right or the front, then upwards or so
    pictures = stacked.swapaxes(1, 2)[:, ::-1]
    return pictures if axis == "sagittal" else pictures[:, :, ::-1]


def write_volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume as compressed NIfTI, whole or not at all.

    Args:
        path: A name that ends in ``.nii.gz``.
        values: (I, J, K), uint8 or uint16; or RGB (I, J, K, 3), uint8.
        affine: Where the voxels lie.
    """
    import gzip

    import nibabel

    if values.ndim == 4:
        values = np.ascontiguousarray(values).view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))[..., 0]
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"fused; for research, not for diagnosis"
    write_atomic(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _orientation(affine: np.ndarray) -> tuple[list[int], list[int]]:
    """Which axis of the voxels runs right, front and up, and 1 or -1 for which way it does."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order: list[int] = []
    for row in directions:
        order.append(max(set(range(3)) - set(order), key=lambda column: abs(row[column])))
    return order, [1 if directions[row, column] > 0 else -1 for row, column in enumerate(order)]


def _read_nifti(path: Path) -> Volume:
    try:
        import nibabel
    except ImportError as error:
        raise UserError(f"`{path}` is a NIfTI file: pip install 'fusion_lightning[medical]' to read it") from error
    say_not_for_diagnosis()
    try:
        image = cast(Any, nibabel.load(path))
        stored = np.asanyarray(image.dataobj)
        scaled = image.dataobj.slope != 1 or image.dataobj.inter != 0
        affine = np.asarray(image.affine, np.float64)
    except Exception as error:  # whatever a damaged header or a cut file raises
        raise UserError(f"cannot read the volume `{path}`: {' '.join(str(error).split())}") from error
    if stored.dtype.names == ("R", "G", "B"):
        stored = np.stack([stored[channel] for channel in "RGB"], axis=-1)
    else:
        stored = stored.reshape(stored.shape[:3] + tuple(side for side in stored.shape[3:] if side > 1))
    if (
        stored.ndim != (4 if stored.shape[3:] == (3,) and stored.dtype == np.uint8 else 3)
        or stored.dtype.kind not in "iuf"
    ):
        raise UserError(
            f"`{path}` holds {stored.dtype} values of shape {'×'.join(map(str, stored.shape))}, but one volume of grey "
            "values or 8-bit RGB is expected: save one of them"
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(f"the volume `{path}` does not say where its voxels lie: its affine cannot be inverted")
    full = (0.0, float(np.iinfo(stored.dtype).max)) if stored.dtype.kind == "u" and not scaled else None
    return Volume(stored, affine, full, str(path))


def _read_slices(folder: Path, as_suv: bool) -> Volume:
    """The DICOM files of a folder in the order of their places."""
    found = []
    for path in dicom_files(folder):
        content = path.read_bytes()
        pixels, full = read_dicom(str(path), content, as_suv)
        found.append((slice_place(str(path), content), pixels, full))
    if len(found) < 2:
        raise UserError(f"the folder `{folder}` holds {counted(len(found), 'DICOM slice')}, too few for a volume")
    series = {place.series for place, _, _ in found}
    if len(series) > 1:
        raise UserError(f"the folder `{folder}` holds {len(series)} series: put each into a folder of its own")
    first = found[0][0]
    if any(pixels.shape != found[0][1].shape or not first.parallel(place) for place, pixels, _ in found):
        raise UserError(f"the slices in `{folder}` differ in size or direction: keep those of one stack")
    normal = np.cross(first.right, first.down)
    found.sort(key=lambda one: float(one[0].corner @ normal))
    gap = _gap([float(place.corner @ normal) for place, _, _ in found], folder)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.right * first.spacing[1], first.down * first.spacing[0]
    affine[:3, 2] = normal * gap
    affine[:3, 3] = found[0][0].corner
    affine[:2] *= -1  # DICOM measures to the left and to the back
    values = np.stack([pixels for _, pixels, _ in found]).swapaxes(1, 2)  # columns, then rows
    return Volume(np.moveaxis(values, 0, 2), affine, found[0][2], str(folder))


def _gap(positions: Sequence[float], folder: Path) -> float:
    """Millimetres between neighbouring slices."""
    gaps = [after - before for before, after in pairwise(positions)]
    if min(gaps) < _SAME:
        raise UserError(f"the folder `{folder}` holds two slices of one place: keep one of them")
    # scanners round positions: a tenth of the gap, or nothing is missing
    if max(gaps) - min(gaps) > 0.1 * min(gaps):
        raise UserError(
            f"the slices in `{folder}` are {min(gaps):.4g} to {max(gaps):.4g} mm apart: some are missing, copy them "
            "again"
        )
    return float(np.mean(gaps))
