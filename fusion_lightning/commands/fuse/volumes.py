"""Volumes: NIfTI files and folders of DICOM slices, fused slice by slice through one tone window."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.fuse.work import Job, Reading, Work, read_written
from fusion_lightning.commands.manifest import Item, digest
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
from fusion_lightning.imaging.windows import Window
from fusion_lightning.text import counted


def holds_volumes(place: str) -> bool:
    """Whether a source is a NIfTI file, or a folder of them and of no images."""
    path = Path(place).expanduser()
    if not path.is_dir():
        return is_nifti(path)
    found = list(path.iterdir())
    return any(map(is_nifti, found)) and not any(one.suffix.lower() in SUFFIXES for one in found)


def pair_volumes(places: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Volumes that belong together, by name; single ones do whatever they are called.

    Args:
        places: Option -> a NIfTI file, a folder of them, or a folder of DICOM slices.

    Returns:
        Name -> option -> a file, or a folder of DICOM slices.

    Raises:
        UserError: If volumes are missing or have no partner.
    """
    found = {option: _find(place, option) for option, place in places.items()}
    if all(len(volumes) == 1 for volumes in found.values()):
        name = next(iter(next(iter(found.values()))))
        return {name: {option: next(iter(volumes.values())) for option, volumes in found.items()}}
    return pair_by_name(
        found, {option: f"{option} {place}" for option, place in places.items()}, "complete or remove them"
    )


def seen_slices(volume: Volume, window: Window, axis: Axis) -> np.ndarray:
    """The slices of a volume through its window, (N, H, W, 1 or 3), uint8 or float32 in [0, 1].

    Raises:
        UserError: If the window has to be named.
    """
    values = volume.values
    if values.dtype != np.uint8 or window.name not in ("", "none"):
        values = window.apply(values, volume.full, volume.path)
    stacked = slices(values if values.ndim == 4 else values[..., None], volume.affine, axis)
    flat = stacked.reshape(-1, *stacked.shape[2:])
    return stacked if shows_color(flat) else to_grey(flat).reshape(*stacked.shape[:3], 1)


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
        self._pairs = pair_volumes(places)
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
        job = replace(job, recipe={**job.recipe, "axis": self._axis})
        whole = Work(job, self, ".nii.gz")
        left = [whole.items[index] for index in whole.left]
        for item in left:  # nothing is written when one of them cannot be used
            Work(job, self._slices(item, job.bits))
        with alone_in(job.folder):
            whole.begin()
            for item in left:
                pairs = self._slices(item, job.bits)
                work = Work(job, pairs)
                work.fuse_images(pairs, "slice")
                work.assemble(item, ".nii.gz", pairs.write)
        print(f"{counted(len(self), 'volume')} {whole.outcome(self.names[0])} into {job.folder}{whole.there}")

    def _slices(self, item: Item, bits: int) -> "_Slices":
        """The slices of a pair of volumes, which have to lie on one grid."""
        paths, windows = self._pairs[item["name"]].values(), self._reading.windows
        a, b = (read_volume(path, window.name == "suv") for path, window in zip(paths, windows, strict=True))
        check_grids(a, b)
        return _Slices(item, a, b, self._reading, self._axis, bits)


class _Slices:
    """Pairs of slices of two volumes, each a batch of one; a volume has one window, and is in colour or is not.

    Args:
        item: The record of the two volumes.
        a: The one.
        b: The other, on the same grid.
        reading: How they are read.
        axis: What kind of slices.
        bits: How many bits per channel are wanted.

    Raises:
        UserError: If a window has to be named, or the result cannot hold so many bits.
    """

    def __init__(self, item: Item, a: Volume, b: Volume, reading: Reading, axis: Axis, bits: int) -> None:
        self._reading, self._axis = reading, axis
        self._shape, self._affine = b.values.shape[:3], b.affine
        self._labels = {"a": a.path, "b": b.path}
        self._slices = {
            side: seen_slices(volume, window, axis)
            for (side, volume), window in zip({"a": a, "b": b}.items(), reading.windows, strict=True)
        }
        colored = any(one.shape[3] == 3 for one in self._slices.values()) or reading.colormap_a is not None
        if colored and bits == 16:
            raise UserError("--bits 16: NIfTI holds colours of 8 bits; leave it out, or fuse grey volumes")
        self.names = [f"{item['name']}/{n:06d}" for n in range(len(self._slices["a"]))]
        self._volumes = sha256(repr(item["sources"]).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def sources(self, index: int) -> dict[str, Any]:
        """The volumes, and which slice of them."""
        return {"volumes": self._volumes, "slice": index}

    def __getitem__(self, index: int) -> FusionBatch:
        images = {side: np.ascontiguousarray(stacked[index]) for side, stacked in self._slices.items()}
        # one name for all slices: the noise of a sampler is the same in all of them
        return self._reading.batch(images, self._labels, "slices")

    def write(self, path: Path, files: Sequence[Path]) -> None:
        """Write the volume whose slices are these images."""
        images = [read_written(file) for file in files]
        values = np.zeros((*self._shape, *images[0].shape[2:]), images[0].dtype)
        slices(values, self._affine, self._axis)[:] = images
        write_volume(path, values, self._affine)


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
