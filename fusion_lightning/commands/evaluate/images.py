"""What is scored: images, slices of volumes, or frames of videos, each with its two sources."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fusion_lightning.batch import SampleDegradation
from fusion_lightning.commands.fuse.frames import Film, FolderTrack, VideoTrack, is_video
from fusion_lightning.commands.fuse.volumes import holds_volumes, pair_volumes, seen_slices
from fusion_lightning.commands.fuse.work import Reading
from fusion_lightning.datamodules.check import check_pairs
from fusion_lightning.datamodules.pairing import find_images as find_files
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.datamodules.pairs import Side, fit_sizes
from fusion_lightning.errors import UserError, check_choice
from fusion_lightning.imaging.io import read_image, resize_image
from fusion_lightning.imaging.video import Sync
from fusion_lightning.imaging.volumes import Axis, check_grids, read_volume
from fusion_lightning.imaging.windows import Window
from fusion_lightning.text import counted

_FULL = Window("none", "--window")
"""A fusion is seen as it is."""


class Images(Protocol):
    """Pairs of sources with their fusions, by number.

    Each is a place (``--source-a``, ``--fused DIR``) -> an image of one size, RGB or grey as float64 (1, C, H, W),
    levels divided by 255.
    """

    names: list[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Tensor]: ...


def find_images(
    sources: Mapping[str, str],
    fusions: Mapping[str, str],
    windows: tuple[Window, Window],
    resize: Side | None,
    axis: Axis | None,
    frames: str | None,
    sync: Sync | None,
) -> Images:
    """What is scored, of one kind.

    Args:
        sources: ``--source-a`` and ``--source-b``, and what they were given as.
        fusions: ``--fused NAME`` and what it was given as.
        windows: The tone windows of the sources.
        resize: The source whose size both get.
        axis: Slices of volumes.
        frames: Which frames of two videos were fused.
        sync: What paired them.

    Raises:
        UserError: If something is missing, unreadable, unpaired or of another size, or an option is for another kind.
    """
    places = {**sources, **fusions}
    if any(map(is_video, sources.values())):
        if axis is not None:
            raise UserError("--axis is for volumes: leave it out")
        delivered = SampleDegradation(scenario="delivered", a=[], b=[])
        return _Frames(sources, fusions, Reading(windows, resize, delivered), frames, sync)
    if frames is not None or sync is not None:
        raise UserError("--frames and --sync are for two videos: leave them out")
    if axis is not None or any(map(holds_volumes, places.values())):
        check_choice("--axis", axis or "axial", Axis)
        if resize is not None:
            raise UserError("--resize is for images: volumes have one grid already")
        return _Slices(places, windows, axis or "axial")
    images = _Files(pair_images(places), windows, resize)
    check_pairs(images)
    return images


class _Files:
    """Image files."""

    def __init__(
        self, pairs: Mapping[str, Mapping[str, Path]], windows: tuple[Window, Window], resize: Side | None
    ) -> None:
        self.names = list(pairs)
        self._pairs = list(pairs.values())
        self._windows = dict(zip(("--source-a", "--source-b"), windows, strict=True))
        self._resize = resize

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        files = {place: str(path) for place, path in self._pairs[index].items()}
        images = {place: read_image(path, None, self._windows.get(place, _FULL)) for place, path in files.items()}
        sources = {side: images.pop(place) for side, place in zip("ab", self._windows, strict=True)}
        sources = fit_sizes(sources, dict(zip("ab", files.values(), strict=False)), self._resize)
        return _of_one_size(sources, images, files)


class _Slices:
    """Slices of volumes on one grid; one volume and its fusions are kept in memory."""

    def __init__(self, places: Mapping[str, str], windows: tuple[Window, Window], axis: Axis) -> None:
        self._volumes = pair_volumes(places)
        self._windows = dict(zip(("--source-a", "--source-b"), windows, strict=True))
        self._axis = axis
        self._read = lru_cache(maxsize=1)(self._read_anew)
        self._numbers = [(name, n) for name in self._volumes for n in range(len(self._read(name)["--source-a"]))]
        self.names = [f"{name}/{n}" for name, n in self._numbers]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        name, number = self._numbers[index]
        return {place: _levels(stacked[number]) for place, stacked in self._read(name).items()}

    def _read_anew(self, name: str) -> dict[str, np.ndarray]:
        """Place -> its slices."""
        windows = {place: self._windows.get(place, _FULL) for place in self._volumes[name]}
        volumes = {
            place: read_volume(path, windows[place].name == "suv") for place, path in self._volumes[name].items()
        }
        for volume in volumes.values():
            check_grids(volumes["--source-a"], volume)
        return {place: seen_slices(volume, windows[place], self._axis) for place, volume in volumes.items()}


class _Frames:
    """Frames of two videos and of what they were fused to: videos, or folders of frames."""

    def __init__(
        self,
        sources: Mapping[str, str],
        fusions: Mapping[str, str],
        reading: Reading,
        frames: str | None,
        sync: Sync | None,
    ) -> None:
        if sync is not None:
            check_choice("--sync", sync, Sync)
        self._sources = Film(sources, reading, frames, sync, "frames").pairs
        self.names = self._sources.names
        self._fusions = {
            option: VideoTrack(place, _FULL) if is_video(place) else _frames_of(place, option)
            for option, place in fusions.items()
        }
        self._labels = {option: track.label for option, track in self._fusions.items()}
        for option, track in self._fusions.items():
            if len(track) != len(self):
                raise UserError(
                    f"{option} has {counted(len(track), 'frame')}, but {len(self)} of its sources belong together: "
                    "give --frames and --sync as when it was fused"
                )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        fused = {option: track.read(index) for option, track in self._fusions.items()}
        return _of_one_size(self._sources.images(index), fused, self._labels)


def _frames_of(place: str, option: str) -> FolderTrack:
    return FolderTrack(list(find_files(place, option).values()), _FULL)


def _of_one_size(
    sources: Mapping[str, np.ndarray], fused: Mapping[str, np.ndarray], files: Mapping[str, str]
) -> dict[str, Tensor]:
    """Both sources at the size of the larger one, which every fusion must have."""
    height, width = (max(image.shape[axis] for image in sources.values()) for axis in (0, 1))
    for place, image in fused.items():
        if image.shape[:2] != (height, width):
            size = f"{image.shape[1]}×{image.shape[0]}"
            raise UserError(f"`{files[place]}` has {size} pixels, but its sources have {width}×{height}")
    enlarged = {f"--source-{side}": resize_image(image, (height, width)) for side, image in sources.items()}
    return {place: _levels(image) for place, image in {**fused, **enlarged}.items()}


def _levels(image: np.ndarray) -> Tensor:
    """An image (1, C, H, W), float64: 8-bit levels divided by 255 exactly enough to be levels again."""
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].double()
    return pixels / 255 if image.dtype == np.uint8 else pixels
