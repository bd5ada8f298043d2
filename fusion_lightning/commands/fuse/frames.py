"""Frames: two videos, or folders of images that are frames of one scene, all seen through one tone window."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.markup import escape

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.fuse.work import Job, Reading, Work, read_written
from fusion_lightning.commands.manifest import digest
from fusion_lightning.datamodules.check import check_pairs
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.datamodules.pairs import fit_sizes
from fusion_lightning.errors import UserError
from fusion_lightning.files import alone_in
from fusion_lightning.imaging.io import read_image, read_stored, shows_color, to_grey
from fusion_lightning.imaging.video import ENDINGS, VIDEOS, Form, Sync, Video, check_form, write_video
from fusion_lightning.imaging.windows import Window
from fusion_lightning.text import counted, printable

_SAMPLES = 16
_RATES = 1e-4
"""Relative difference from which on two frame rates drift apart: that of 30 and 29.97 is ten times as large."""


def is_video(place: str) -> bool:
    """Whether a source is a video file, by its name."""
    return Path(place).suffix.lower() in VIDEOS


class Track(Protocol):
    """The frames of one source, in order."""

    window: Window
    """Its tone window, the same for all frames."""
    label: str
    """What the source is called in errors."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> np.ndarray:
        """A frame (H, W, 1 or 3), uint8 or float32 in [0, 1]; all of them in colour or none."""

    def source(self, index: int) -> dict[str, Any]:
        """What a frame is, for the record."""


class VideoTrack:
    """The frames of a video file."""

    def __init__(self, place: str, window: Window) -> None:
        path = Path(place).expanduser()
        if not path.is_file():
            raise UserError(f"{place}: there is no such video")
        self.label = str(path)
        self._video = Video(path)
        self.rate = self._video.rate
        with Console(stderr=True).status(f"reading {escape(printable(self.label))}"):
            survey = self._video.survey(count_values=self._video.bits > 8 or window.name not in ("", "none"))
        self.times = survey.times
        self._full = (0.0, 2.0**self._video.bits - 1)
        self.window = window
        if survey.counts is not None:
            values = np.flatnonzero(survey.counts)
            self.window = window.measured(values, self._full, self.label, survey.counts[values])
        self._colored = any(shows_color(_three(frame)) for frame in survey.sample)
        self.file = {"path": self.label, "sha256": digest(path)}

    def __len__(self) -> int:
        return len(self.times)

    def read(self, index: int) -> np.ndarray:
        """A frame (H, W, 1 or 3)."""
        pixels = _three(self._video[index])
        if self.window.curve is not None:
            pixels = self.window.apply(pixels, self._full, self.label)
        return pixels if self._colored else to_grey(pixels)

    def source(self, index: int) -> dict[str, Any]:
        """The file, and which frame of it."""
        return {**self.file, "frame": index}


class FolderTrack:
    """Images that are the frames of a scene."""

    def __init__(self, files: Sequence[Path], window: Window) -> None:
        self._files = files
        self.label = str(files[0].parent)
        self.window = _measured(files, window)
        step = -(-len(files) // _SAMPLES)
        self._colored = any(shows_color(read_image(path, None, self.window)) for path in files[::step])

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> np.ndarray:
        """A frame (H, W, 1 or 3)."""
        image = read_image(self._files[index], 3 if self._colored else None, self.window)
        return image if self._colored else to_grey(image)

    def source(self, index: int) -> dict[str, Any]:
        """The file."""
        return {"path": str(self._files[index]), "sha256": digest(self._files[index])}


class FramePairs:
    """Pairs of frames; what was decided for one holds for all: the window, what is in colour, the method's noise.

    Args:
        tracks: The frames of both sources.
        numbers: Which frame of a goes with which of b.
        names: What the results are called.
        reading: How they are read.
    """

    def __init__(
        self, tracks: Mapping[str, Track], numbers: Sequence[tuple[int, int]], names: list[str], reading: Reading
    ) -> None:
        self.names = names
        self._tracks, self._numbers, self._reading = tracks, numbers, reading
        self._labels = {side: track.label for side, track in tracks.items()}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> FusionBatch:
        """Read one pair of frames.

        Raises:
            UserError: If it cannot be used.
        """
        # one name for all frames: the noise of a sampler stands still, so that nothing flickers
        return self._reading.batch(self.images(index), self._labels, "frames")

    def images(self, index: int) -> dict[str, np.ndarray]:
        """Both frames (H, W, 1 or 3), uint8 or float32 in [0, 1].

        Raises:
            UserError: If one cannot be read, or their sizes do not fit each other.
        """
        images = {
            side: track.read(number)
            for (side, track), number in zip(self._tracks.items(), self._numbers[index], strict=True)
        }
        return fit_sizes(images, self._labels, self._reading.resize)

    def sources(self, index: int) -> dict[str, Any]:
        """The two frames."""
        return {
            side: track.source(number)
            for (side, track), number in zip(self._tracks.items(), self._numbers[index], strict=True)
        }


class Frames:
    """Two folders of images whose pairs, by name, are frames of one scene.

    Args:
        places: ``--source-a`` and ``--source-b``.
        reading: How they are read.
        span: Which frames, as in `frame_span`.
    """

    def __init__(self, places: Mapping[str, str], reading: Reading, span: str) -> None:
        pairs = pair_images(places)
        names = list(pairs)
        files = [list(files.values()) for files in pairs.values()]
        self.files = [path for pair in files for path in pair]
        tracks = {
            side: FolderTrack([pair[number] for pair in files], window)
            for number, (side, window) in enumerate(zip("ab", reading.windows, strict=True))
        }
        chosen = frame_span(span, len(names))
        self.pairs = FramePairs(tracks, [(n, n) for n in chosen], [names[n] for n in chosen], reading)

    def fuse(self, job: Job) -> None:
        """Fuse all of them to images."""
        work = Work(job, self.pairs)
        check_pairs(self.pairs)
        with alone_in(job.folder):
            work.fuse_images(self.pairs, "frame")
        print(f"{counted(len(self.pairs), 'frame')} {work.outcome(self.pairs.names[0])} into {job.folder}{work.there}")


class Film:
    """Two videos.

    Args:
        places: ``--source-a`` and ``--source-b``.
        reading: How they are read.
        span: Which frames, as in `frame_span`; None takes all.
        sync: Pair frames by their number, to the end of the shorter video, or by the time at which they are shown, at
            the rate of a. None refuses videos of which it would have to be known.
        form: What they become.

    Raises:
        UserError: If a video cannot be read, or they differ in rate or length and `sync` is not given.
    """

    def __init__(
        self, places: Mapping[str, str], reading: Reading, span: str | None, sync: Sync | None, form: Form
    ) -> None:
        self._form: Form = form
        for option, place in places.items():
            if not is_video(place):
                raise UserError(
                    f"{option} {place} is no video, but the other source is: give two videos, or two folders"
                )
        a, b = (VideoTrack(place, window) for place, window in zip(places.values(), reading.windows, strict=True))
        self.rate = a.rate
        self.files = [Path(a.label), Path(b.label)]
        numbers = _synchronized(a, b, sync)
        chosen = frame_span(span, len(numbers))
        stem = Path(a.label).stem
        self.name = stem if span is None else f"{stem}-{chosen.start}-{chosen.stop}"
        self._whole = {"a": a.file, "b": b.file, "frames": [chosen.start, chosen.stop], "sync": sync}
        names = [f"{stem}/{n:06d}" for n in chosen]
        self.pairs = FramePairs({"a": a, "b": b}, [numbers[n] for n in chosen], names, reading)

    def fuse(self, job: Job) -> None:
        """Fuse all frames to images, and these to a video; then they go."""
        first = self.pairs[0]
        colored = any(first[key].shape[1] == 3 for key in ("source_a", "source_b"))
        check_form(self._form, job.bits, colored)
        if self._form == "frames":
            self._fuse_frames(job)
            return
        work = Work(job, self.pairs)
        film = {"name": self.name, "sources": self._whole, **job.recipe, "video": self._form}
        target = job.folder / f"{self.name}{ENDINGS[self._form]}"
        if not job.overwrite and work.done(film, target.suffix):
            print(f"{work.written(self.name)[0]} was there already")
            return
        with alone_in(job.folder):
            work.fuse_images(self.pairs, "frame")
            work.assemble(film, target.suffix, self._write)
        count, (path, *_) = counted(len(self.pairs), "frame"), work.written(self.name)
        print(f"{count} {work.outcome(self.name)} into {path}{work.there}")

    def _write(self, path: Path, files: Sequence[Path]) -> None:
        write_video(path, map(read_written, files), self.rate, self._form)

    def _fuse_frames(self, job: Job) -> None:
        work = Work(job, self.pairs)
        with alone_in(job.folder):
            work.fuse_images(self.pairs, "frame")
        first = self.pairs.names[0]
        folder = work.written(first)[0].parent
        print(f"{counted(len(self.pairs), 'frame')} {work.outcome(first)} into {folder}{work.there}")


def frame_span(span: str | None, count: int) -> range:
    """The frames that ``--frames`` asks for.

    Args:
        span: ``all`` or None; or ``FIRST:END``, counted from 0, without END itself, each of which may be left out.
        count: How many there are.

    Raises:
        UserError: If it is no such span, or holds no frame.
    """
    if span in (None, "all"):
        return range(count)
    first, colon, end = str(span).partition(":")
    if not colon or not all(number == "" or number.isdecimal() for number in (first, end)):
        raise UserError(f"--frames must be `all` or FIRST:END, for example 100:200, but got {span!r}")
    chosen = range(count)[int(first or 0) : int(end) if end else None]
    if not chosen:
        raise UserError(f"--frames {span} holds none of {counted(count, 'frame')}, 0:{count}")
    return chosen


def _synchronized(a: VideoTrack, b: VideoTrack, sync: Sync | None) -> list[tuple[int, int]]:
    """Which frame of a goes with which of b."""
    if sync is None:
        sides = f"`{a.label}` has {counted(len(a), 'frame')} at {a.rate:.6g} a second and "
        sides += f"`{b.label}` {len(b)} at {b.rate:.6g}"
        if abs(a.rate - b.rate) > _RATES * a.rate:
            raise UserError(
                f"{sides}: give --sync time to pair what was shown at the same time, or --sync index frame by frame"
            )
        if len(a) != len(b):
            raise UserError(f"{sides}: give --sync index to fuse what both have, or cut them to one length")
    if sync != "time":
        return [(n, n) for n in range(min(len(a), len(b)))]
    ends = b.times[-1] + 1 / b.rate
    return [(n, int(of_b)) for n, of_b in enumerate(_nearest(a.times, b.times)) if a.times[n] < ends]


def _nearest(times: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each time the number of the closest among rising ones; the earlier one of two that are as close."""
    if len(among) == 1:
        return np.zeros(len(times), int)
    after = np.searchsorted(among, times).clip(1, len(among) - 1)
    found: np.ndarray = after - (times - among[after - 1] <= among[after] - times)
    return found


def _measured(files: Sequence[Path], window: Window) -> Window:
    """The window over all frames; as it is where it depends on no frame."""
    if window.name in ("raw", "suv", "none"):
        return window
    counts = np.zeros(2**16, np.int64)
    deepest = None
    for path in files:
        pixels, full = read_stored(str(path), as_suv=False)
        if pixels.dtype == np.uint8 and not window.name:
            continue
        if pixels.dtype not in (np.uint8, np.uint16) or full is None:
            raise UserError(
                f"`{path}` holds {pixels.dtype} values: name one tone window for all frames, {window.option} raw:LO,HI"
            )
        counts += np.bincount(pixels.ravel(), minlength=len(counts))
        deepest = full if deepest is None else max(deepest, full)
    values = np.flatnonzero(counts)
    return window.measured(values, deepest, str(files[0].parent), counts[values]) if len(values) else window


def _three(frame: np.ndarray) -> np.ndarray:
    return frame if frame.ndim == 3 else frame[..., None]
