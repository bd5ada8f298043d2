"""Video files: read frame by frame, measured once, written whole or not at all."""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from fusion_lightning.errors import UserError

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # a damaged file is named here, once

VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv", ".ts"})
"""What is read as a video, in lower case."""

Form = Literal["mp4", "lossless", "frames"]
"""What a fused video is written as."""
Sync = Literal["index", "time"]
"""What pairs the frames of two videos: their numbers, or when they are shown."""

ENDINGS = {"mp4": ".mp4", "lossless": ".mkv"}
"""What the file of each form ends in."""
_CODECS = {"mp4": "mp4v", "lossless": "FFV1"}
"""MPEG-4 and FFV1: the wheels of OpenCV bring both."""

_GREY = {"Y800": 8, "Y1\0\x10": 16}
"""Pixel formats with one channel that are read as they are, and their bits."""
_SAMPLES = 16


class Survey(NamedTuple):
    """What one pass over a video finds."""

    times: np.ndarray
    """When each frame is shown, in seconds."""
    counts: np.ndarray | None
    """How often each value occurs in all frames, (256 or 65536,); None where it was not asked for."""
    sample: list[np.ndarray]
    """Some frames from begin to end."""


class Video:
    """The frames of a video file by number, (H, W) or RGB (H, W, 3), uint8 or uint16; cheapest in rising order.

    Args:
        path: The file.

    Raises:
        UserError: If it cannot be opened, or holds grey values of more than 8 bits that are not 16.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bits = 8
        self._raw = False
        self._frame: np.ndarray | None = None
        self._restart()
        code = int(self._capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
        pixels = "".join(chr(code >> shift & 255) for shift in (0, 8, 16, 24))
        if pixels in _GREY:
            self.bits, self._raw = _GREY[pixels], True
            self._restart()
        elif pixels.startswith("Y1") or pixels.endswith("1Y"):
            raise UserError(
                f"`{path}` holds grey values of more than 8 bits that would be cut to 8: convert it "
                "(ffmpeg -i IN -pix_fmt gray16le -c:v ffv1 OUT.mkv)"
            )
        self.rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        """Frames per second."""
        if not (math.isfinite(self.rate) and 0 < self.rate <= 100_000):
            raise UserError(f"the video `{path}` does not say how many frames a second it has: give its frames instead")

    def survey(self, count_values: bool) -> Survey:
        """Decode the whole video once.

        Raises:
            UserError: If it holds no frame, or its end is missing.
        """
        self._restart()
        nominal = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 1)
        counts = np.zeros(2**self.bits, np.int64)
        times: list[float] = []
        sample: list[np.ndarray] = []
        while self._capture.grab():
            times.append(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            wanted = len(times) > len(sample) * nominal / _SAMPLES
            if wanted or count_values:
                frame = self._retrieve()
                if wanted:
                    sample.append(frame)
                if count_values:
                    counts += np.bincount(frame.ravel(), minlength=len(counts))
        self._restart()
        if not times:
            raise UserError(f"the video `{self.path}` holds no frame that can be decoded: copy it again")
        # what a container says of its frames is exact in MP4, and an estimate elsewhere
        if len(times) < nominal - max(2, nominal // 100):
            raise UserError(
                f"the video `{self.path}` ends at frame {len(times)} of {nominal}: copy it again, or cut it there"
            )
        shown = np.array(times)
        if len(times) > 1 and not (np.diff(shown) > 0).all():
            shown = np.arange(len(times)) / self.rate
        return Survey(shown, counts if count_values else None, sample)

    def __getitem__(self, index: int) -> np.ndarray:
        """The frame of a number.

        Raises:
            UserError: If it cannot be decoded.
        """
        if index < self._at:
            self._restart()
        while self._at < index:
            if not self._capture.grab():
                raise UserError(f"frame {index} of the video `{self.path}` cannot be decoded: copy it again")
            self._at += 1
            self._frame = None
        if self._frame is None:
            self._frame = self._retrieve()
        return self._frame

    def _retrieve(self) -> np.ndarray:
        done, frame = self._capture.retrieve()
        if not done:
            raise UserError(f"a frame of the video `{self.path}` cannot be decoded: copy it again")
        return frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _restart(self) -> None:
        """Go back to before the first frame."""
        self._capture = self._opened()
        self._at, self._frame = -1, None

    def _opened(self) -> cv2.VideoCapture:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it warns of what is asked for
        try:
            options = [cv2.CAP_PROP_CONVERT_RGB, int(not self._raw)]
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, options)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise UserError(f"the video `{self.path}` cannot be opened: it is damaged, or no video that OpenCV reads")
        return capture


def check_form(form: Form, bits: int, colored: bool) -> None:
    """Refuse a form that cannot hold the frames.

    Raises:
        UserError: If it has fewer bits than are asked for.
    """
    if bits == 16 and (form == "mp4" or (form == "lossless" and colored)):
        raise UserError(
            f"--video {form} holds 8 bits{' of colour' if form == 'lossless' else ''}: give --video frames"
            f"{'' if colored else ' or --video lossless'} for 16"
        )


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float, form: Form) -> None:
    """Write frames (H, W) or RGB (H, W, 3), uint8 or uint16, as a video, whole or not at all.

    A side that is odd is made even by repeating its last pixels, as the formats ask for.

    Raises:
        UserError: If it cannot be written.
    """
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    writer, count = None, 0
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            odd = [(0, height % 2), (0, width % 2), (0, 0)]
            frame = np.pad(frame, odd[: frame.ndim], mode="edge")
            if writer is None:
                writer = _writer(unfinished, frame, rate, form)
            writer.write(frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
            count += 1
        if writer is not None:
            writer.release()
        if not _holds(unfinished, count):  # the encoder says nothing when the disk is full
            raise UserError(f"{path} cannot be written: is the disk full?")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _holds(path: Path, count: int) -> bool:
    try:
        return len(Video(path).survey(count_values=False).times) == count
    except UserError:
        return False


def _writer(path: Path, frame: np.ndarray, rate: float, form: Form) -> cv2.VideoWriter:
    depth = cv2.CV_8U if frame.dtype == np.uint8 else cv2.CV_16U
    properties = [cv2.VIDEOWRITER_PROP_DEPTH, depth, cv2.VIDEOWRITER_PROP_IS_COLOR, int(frame.ndim == 3)]
    code = cv2.VideoWriter.fourcc(*_CODECS[form])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate, frame.shape[1::-1], properties)
    if not writer.isOpened():
        raise UserError(f"{path.parent} takes no {path.suffix} video: choose another --output, or --video frames")
    return writer
