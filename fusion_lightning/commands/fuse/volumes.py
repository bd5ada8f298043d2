"""Volumes: NIfTI files and folders of DICOM slices, fused slice by slice through one tone window."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.fuse.work import Job, Reading, Work, progress
from fusion_lightning.commands.manifest import digest
from fusion_lightning.datamodules.pairing import pair_by_name
from fusion_lightning.errors import UserError
from fusion_lightning.files import alone_in
from fusion_lightning.imaging.io import SUFFIXES, shows_color, to_grey
from fusion_lightning.imaging.volumes import (
    NIFTI,
    Axis,
    Volume,
    check_grids,
    dicom_files,
    is_nifti,
    read_volume,
    slices,
    write_volume,
)


def holds_volumes(place: str) -> bool:
    """Whether a source is a NIfTI file, or a folder of them and of no images."""
    path = Path(place).expanduser()
    if not path.is_dir():
        return is_nifti(path)
    found = list(path.iterdir())
    return any(map(is_nifti, found)) and not any(one.suffix.lower() in SUFFIXES for one in found)


class Volumes:
    """Pairs of volumes.

    Args:
        places: ``--source-a`` and ``--source-b``: a NIfTI file, a folder of them, or a folder of DICOM slices.
        reading: How they are read.
        axis: What kind of slices are fused.

    Raises:
        UserError: If volumes are missing or have no partner.
    """

    def __init__(self, places: Mapping[str, str], reading: Reading, axis: Axis) -> None:
        if reading.resize is not None:
            raise UserError("--resize is for images: two volumes have one grid already")
        found = {option: _find(place, option) for option, place in places.items()}
        if all(len(volumes) == 1 for volumes in found.values()):
            name, *_ = found["--source-a"]
            self._pairs = {name: {option: next(iter(volumes.values())) for option, volumes in found.items()}}
        else:
            where = {option: f"{option} {place}" for option, place in places.items()}
            self._pairs = pair_by_name(found, where, "complete or remove them")
        self._reading, self._axis = reading, axis
        self.files = [file for files in self._pairs.values() for path in files.values() for file in _contents(path)]
        self.names = list(self._pairs)

    def __len__(self) -> int:
        return len(self.names)

    def sources(self, index: int) -> dict[str, Any]:
        """The files of a pair of volumes."""
        return {
            side: {"path": str(path), "sha256": [digest(file) for file in _contents(path)]}
            for side, path in zip("ab", self._pairs[self.names[index]].values(), strict=True)
        }

    def fuse(self, job: Job) -> None:
        """Fuse all of them, slice by slice; a volume is written when its last slice is fused."""
        if job.trajectory:
            raise UserError("--trajectory draws one image at a time: leave it out for volumes")
        work = Work(replace(job, recipe={**job.recipe, "axis": self._axis}), self, ".nii.gz")
        for index in work.left:  # nothing is written when one of them cannot be used
            _Slices(*self._read(index), self._reading, self._axis, job.bits)
        with alone_in(job.folder):
            work.begin()
            for index in work.left:
                volumes = self._read(index)
                fused = self._fuse_slices(job, self.names[index], *volumes)
                paths = [Path(part) / f"{self.names[index]}.nii.gz" for part in fused]
                work.record(index, paths)
                for path, values in zip(paths, fused.values(), strict=True):
                    write_volume(job.folder / path, values, volumes[1].affine)
        print(f"{len(self)} volume{'s' if len(self) > 1 else ''} fused into {job.folder}{work.there}")

    def _read(self, index: int) -> tuple[Volume, Volume]:
        """Both volumes of a pair, on one grid."""
        paths, windows = self._pairs[self.names[index]].values(), self._reading.windows
        a, b = (read_volume(path, window.name == "suv") for path, window in zip(paths, windows, strict=True))
        check_grids(a, b)
        return a, b

    def _fuse_slices(self, job: Job, name: str, a: Volume, b: Volume) -> dict[str, np.ndarray]:
        """The results' voxels by the folder they go to."""
        pairs = _Slices(a, b, self._reading, self._axis, job.bits)
        results: dict[str, np.ndarray] = {}
        with progress("slice") as bar:
            for index in bar.track(range(len(pairs)), description=f"fusing {name}"):
                for part, image in job.fuse(pairs[index]).items():
                    shape = (*a.values.shape[:3], *image.shape[2:])
                    values = results.setdefault(part, np.zeros(shape, image.dtype))
                    slices(values, a.affine, self._axis)[index] = image
        return results


class _Slices:
    """Pairs of slices of two volumes, each a batch of one; a volume has one window, and is in colour or is not."""

    def __init__(self, a: Volume, b: Volume, reading: Reading, axis: Axis, bits: int) -> None:
        self._reading = reading
        self._labels = {"a": a.path, "b": b.path}
        self._slices: dict[str, np.ndarray] = {}
        for (side, volume), window in zip({"a": a, "b": b}.items(), reading.windows, strict=True):
            values = volume.values
            if values.dtype != np.uint8 or window.name not in ("", "none"):
                values = window.apply(values, volume.full, volume.path)
            stacked = slices(values if values.ndim == 4 else values[..., None], volume.affine, axis)
            flat = stacked.reshape(-1, *stacked.shape[2:])
            self._slices[side] = stacked if shows_color(flat) else to_grey(flat).reshape(*stacked.shape[:3], 1)
        colored = any(one.shape[3] == 3 for one in self._slices.values()) or reading.colormap_a is not None
        if colored and bits == 16:
            raise UserError("--bits 16: NIfTI holds colours of 8 bits; leave it out, or fuse grey volumes")

    def __len__(self) -> int:
        return len(self._slices["a"])

    def __getitem__(self, index: int) -> FusionBatch:
        images = {side: np.ascontiguousarray(stacked[index]) for side, stacked in self._slices.items()}
        # one name for all slices: the noise of a sampler is the same in all of them
        return self._reading.batch(images, self._labels, "slices")


def _find(place: str, option: str) -> dict[str, Path]:
    """The volumes of a place by name: a NIfTI file, those of a folder, or the folder of DICOM slices itself."""
    path = Path(place).expanduser()
    if path.is_file() and is_nifti(path):
        return {_stem(path): path}
    if path.is_file():
        raise UserError(
            f"{option} {place} is no volume: give NIfTI files ({', '.join(NIFTI)}) or a folder of DICOM slices"
        )
    if not path.is_dir():
        raise UserError(f"{option} {place}: there is no such file or folder")
    found = {_stem(one): one for one in sorted(path.iterdir()) if is_nifti(one) and not one.name.startswith(".")}
    return found or {path.resolve().name: path}


def _stem(path: Path) -> str:
    return path.name[: -len(".nii.gz" if path.name.lower().endswith(".gz") else ".nii")]


def _contents(path: Path) -> list[Path]:
    """The files that a volume consists of."""
    return dicom_files(path) if path.is_dir() else [path]
