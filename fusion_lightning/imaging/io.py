"""Reading and writing image files; errors name the file and say what to do."""

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging.medical import is_dicom, read_dicom
from fusion_lightning.imaging.resize import covered
from fusion_lightning.imaging.video import VIDEOS
from fusion_lightning.imaging.volumes import is_nifti
from fusion_lightning.imaging.windows import Window

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm", ".pnm"}
    | {".pfm", ".gif", ".jp2", ".avif", ".hdr", ".exr", ".dcm"}
)
"""What is read as an image, in lower case."""

LOOKS_LIKE_AN_IMAGE = frozenset(
    {".heic", ".heif", ".jxl", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".svg", ".psd", ".ico", ".npy", ".npz"}
    | {".mat", ".fits", ".fit", ".seq", ".gz", ".mha", ".nrrd", ".nii"}
    | VIDEOS
)
"""What may hold an image but is not read; where it lies among images it is named."""

_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}
"""First bytes of a format -> the mark that ends its files; the decoder draws what is left of a cut file in grey."""

_PAGED = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF."""

_NEARLY_GREY = 2.0
"""Largest mean difference of channels, in grey levels and beside a constant one, of an image that shows no colour."""
_OFFSET = 3.5
"""Largest one with the constant: a video's decoder rounds the grey of limited range to channels up to 3 apart."""

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # read where OpenCV was built with it


class Ending(NamedTuple):
    """What an image file can hold, by the ending of its name."""

    bits: int
    """Bits per channel, at most."""
    side: int
    """Pixels of a side, at most."""
    channels: tuple[int, ...] = (1, 3)
    """Grey, colour, or both."""


WRITTEN = {
    ".png": Ending(16, 1_000_000),
    **dict.fromkeys((".tif", ".tiff", ".pnm"), Ending(16, 2**20)),
    ".pgm": Ending(16, 2**20, (1,)),
    ".ppm": Ending(16, 2**20, (3,)),
    ".bmp": Ending(8, 2**20),
    ".webp": Ending(8, 16383),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe"), Ending(8, 65500)),
}
"""What is written as an image, in lower case; larger ones would not be read again."""


class Stored(NamedTuple):
    """What a file holds, before anything is made of it."""

    pixels: np.ndarray
    """(H, W) or RGB (H, W, 3), of the file's type."""
    full: tuple[float, float] | None
    """The range of that type; None for signed integers and floating point."""


def read_image(
    path: str | os.PathLike[str], channels: Literal[1, 3] | None = None, window: Window | None = None
) -> np.ndarray:
    """Read an image file: 8-bit files as uint8, all others as float32 in [0, 1].

    Alpha is dropped, a palette and CMYK become RGB, an EXIF rotation is carried out. Folders and names may hold any
    character.

    Args:
        path: The file.
        channels: 3 for RGB; 1 for grey, which a file is whose channels do not differ by more than noise or compression
            leaves; None takes it as it is, one channel if all are equal.
        window: The tone window; see there for what happens without one.

    Returns:
        Image (H, W, channels).

    Raises:
        UserError: If the file cannot be opened, is empty, cut short or no image, holds several pages, is in colour
            where grey is asked for, or needs a tone window.
    """
    name, window = os.fspath(path), window or Window()
    pixels, full = read_stored(name, as_suv=window.name == "suv")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or window.name not in ("", "none"):
        pixels = window.apply(pixels, full, name)
    if channels == 3 or (channels is None and not (pixels == pixels[..., :1]).all()):
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    if channels == 1 and shows_color(pixels):
        raise UserError(f"`{name}` is in colour, but a grey image is expected: save its values as grey levels")
    return to_grey(pixels)


def shows_color(image: np.ndarray) -> bool:
    """Whether an image (H, W, 1 or 3), uint8 or float, has more colour than noise or compression leaves in a grey one.

    A palette such as JET shows colour; independent noise in three channels does not, nor does a faint tint that is the
    same everywhere.
    """
    if image.shape[2] == 1:
        return False
    small = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    levels = small if image.dtype == np.uint8 else 255 * small
    chroma = levels - levels.mean(axis=2, keepdims=True)
    varying = chroma - chroma.mean(axis=(0, 1))
    limits = ((chroma, _OFFSET), (varying, _NEARLY_GREY))
    return any(float(np.ptp(values, axis=2).mean()) > limit for values, limit in limits)


def to_grey(image: np.ndarray) -> np.ndarray:
    """The luma (H, W, 1) of an image (H, W, 1 or 3) of the same type."""
    return image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def check_sizes(sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse images that do not show the same frame.

    They may differ in resolution, but not in the ratio of their sides, to within a pixel of the smaller one.

    Args:
        sizes: Path -> height and width.

    Raises:
        UserError: If they differ; both sizes are named.
    """
    largest = max(sizes, key=lambda path: sizes[path])
    height, width = sizes[largest]
    for path, (h, w) in sizes.items():
        if h > height or w > width or (abs(h - w * height / width) >= 1 and abs(w - h * width / height) >= 1):
            raise UserError(
                f"`{path}` has {w}×{h} pixels and `{largest}` has {width}×{height}: their sides must have the same "
                "ratio; crop them to one frame, or stretch them by `resize: a` or `resize: b` (--resize)"
            )


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring an image (H, W, C) to a size (height, width): area means where it shrinks, bicubic where it grows.

    What is whole times smaller grows to where its pixels belong (`covered`).
    """
    if image.shape[:2] == size:
        return image
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    whole = size if shrinks else covered((image.shape[0], image.shape[1]), size)
    scaled = cv2.resize(image, whole[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    scaled = scaled.reshape(*whole, image.shape[2])[: size[0], : size[1]]
    return scaled if scaled.dtype == np.uint8 else scaled.clip(0, 1)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W), (H, W, 1) or RGB (H, W, 3), uint8 or uint16, as the type its name says, whole or not.

    Folders are made.

    Raises:
        UserError: If the name says no image type, or one that cannot hold the image.
    """
    _check_holds(path, image)
    # not cv2.imwrite, which cannot write names outside ASCII everywhere and says nothing when the disk is full
    write_atomic(path, _encode(image, path.suffix))


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image (H, W), (H, W, 1) or RGB (H, W, 3), uint8 or uint16."""
    return _encode(image, ".png")


def _check_holds(path: Path, image: np.ndarray) -> None:
    """Refuse a file that cannot hold an image, before the encoder cuts its values or fails."""
    ending = WRITTEN.get(path.suffix.lower())
    if ending is None:
        raise UserError(f"{path} cannot be written: {path.suffix!r} is no image type, use .png or .jpg")
    height, width, *channels = image.shape
    reasons = {
        f"{width}×{height} pixels": max(height, width) > ending.side,
        "16 bits": image.dtype == np.uint16 and ending.bits < 16,
        "colour" if channels == [3] else "grey": (channels or [1])[0] not in ending.channels,
    }
    for reason, applies in reasons.items():
        if applies:
            raise UserError(f"{path} cannot be written: {path.suffix} files do not hold {reason}, use .png or .tif")


def _encode(image: np.ndarray, suffix: str) -> bytes:
    data: np.ndarray = cv2.imencode(suffix, image[..., ::-1] if image.shape[2:] == (3,) else image)[1]
    return data.tobytes()


def read_stored(path: str, as_suv: bool) -> Stored:
    """Read the values of an image file as they are stored; activity as standardised uptake values if asked to.

    Raises:
        UserError: As `read_image`, but for windows and colour.
    """
    if is_nifti(path) or Path(path).suffix.lower() in VIDEOS:
        what, parts = ("volume", "slices") if is_nifti(path) else ("video", "frames")
        raise UserError(f"`{path}` is a {what}, which only `fuse` and `evaluate` take: save its {parts} as images")
    content = _read_bytes(path)
    if is_dicom(content):
        return Stored(*read_dicom(path, content, as_suv))
    if content.startswith(_PAGED):
        return _read_tiff(path, content)
    pixels = _decode(path, content)
    if Path(path).suffix.lower() == ".gif" and cv2.imcount(path) > 1:
        raise UserError(f"`{path}` holds {cv2.imcount(path)} pages, but one image is expected: save one of them")
    if pixels is None:
        reason = "it is damaged or not an image"
        if Path(path).suffix.lower() == ".exr":
            reason = "this OpenCV was built without EXR, save it as a floating-point TIFF"
        raise UserError(f"cannot decode the image `{path}`: {reason}")
    return Stored(pixels, _full_range(pixels))


def _read_bytes(path: str) -> bytes:
    """The content of an image file.

    Raises:
        UserError: If the file cannot be opened, is empty, or its end is missing.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot open the image `{path}`: {error.strerror}") from error
    if not content:
        raise UserError(f"the image `{path}` is empty (0 bytes): copy it again or remove the pair")
    for start, end in _ENDS.items():
        if content.startswith(start) and end not in content[len(start) :]:
            raise UserError(f"the image `{path}` is cut short: copy it again or remove the pair")
    return content


def _read_tiff(path: str, content: bytes) -> Stored:
    """OpenCV decodes most of them; tifffile knows their pages and how many bits are used."""
    import tifffile  # takes a while to load

    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            first = file.pages.first
            count = sum(not page.aspage().is_reduced for page in file.pages)  # a thumbnail is no page
            bits, kind = first.bitspersample, first.sampleformat
            # OpenCV complains aloud of half precision
            pixels = None if (kind, bits) == (3, 16) else _decode(path, content)
            if pixels is None:
                pixels = first.asarray()
                if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
                    pixels = 2**bits - 1 - pixels
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"cannot decode the image `{path}`: {' '.join(str(error).split())}") from error
    if count > 1 or pixels.ndim > 3 or pixels.shape[2:] not in ((), (1,), (3,)):
        what = f"{count} pages" if count > 1 else f"pixels of shape {pixels.shape}"
        raise UserError(f"`{path}` holds {what}, but one grey or colour image is expected: save one page of it")
    if pixels.dtype == np.uint16 and kind == 1 and bits in (10, 12, 14):
        return Stored(pixels >> (16 - bits), (0.0, 2.0**bits - 1))  # as OpenCV unpacks them, the lowest bits are 0
    return Stored(pixels, _full_range(pixels))


def _decode(path: str, content: bytes) -> np.ndarray | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:
        raise UserError(f"cannot decode the image `{path}`: {error.err}") from error
    if pixels is None or pixels.ndim == 2:
        return pixels
    return pixels[..., ::-1] if pixels.dtype.itemsize > 4 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _full_range(pixels: np.ndarray) -> tuple[float, float] | None:
    return (0.0, float(np.iinfo(pixels.dtype).max)) if pixels.dtype.kind == "u" else None
