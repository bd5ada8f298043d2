"""Reading and writing image files; errors name the file and say what to do."""

import os
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
"""What counts as an image in a data folder, in lower case; anything else (``Thumbs.db``) is passed over."""

_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}
"""First bytes of a format -> the mark that ends its files; the decoder draws what is left of a cut file in grey."""


def read_image(path: str | os.PathLike[str], channels: Literal[1, 3]) -> np.ndarray:
    """Read an image file as 8 bit, whatever it holds.

    Alpha is dropped, a palette and CMYK become RGB, an EXIF rotation is carried out, 16 bit is divided by 257 (the
    full range goes to the full range), colour becomes luma where one channel is asked for and grey is repeated where
    three are. Folders and names may hold any character.

    Args:
        path: The file.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Image (H, W, channels), uint8.

    Raises:
        UserError: If the file cannot be opened, is empty, cut short or no image, or holds floating-point pixels.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UserError(f"cannot open the image `{os.fspath(path)}`: {error.strerror}") from error
    if not content:
        raise UserError(f"the image `{os.fspath(path)}` is empty (0 bytes): copy it again or remove the pair")
    for start, end in _ENDS.items():
        if content.startswith(start) and end not in content[len(start) :]:
            raise UserError(f"the image `{os.fspath(path)}` is cut short: copy it again or remove the pair")
    flags = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise UserError(f"cannot decode the image `{os.fspath(path)}`: {error.err}") from error
    if image is None:
        raise UserError(f"cannot decode the image `{os.fspath(path)}`: it is damaged or not an image")
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UserError(f"the image `{os.fspath(path)}` has {image.dtype} pixels: save it with 8 or 16 bits")
    return image[..., None] if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W) or RGB (H, W, 3), uint8, as the file type its name says, whole or not at all.

    Folders are made.

    Raises:
        UserError: If the name says no image type.
    """
    # not cv2.imwrite, which cannot write names outside ASCII everywhere and says nothing when the disk is full
    try:
        write_atomic(path, _encode(image, path.suffix))
    except cv2.error as error:
        raise UserError(f"{path} cannot be written: {path.suffix!r} is no image type, use .png or .jpg") from error


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of an image (H, W), (H, W, 1) or RGB (H, W, 3), uint8."""
    return _encode(image, ".png")


def _encode(image: np.ndarray, suffix: str) -> bytes:
    data: np.ndarray = cv2.imencode(suffix, image[..., ::-1] if image.shape[2:] == (3,) else image)[1]
    return data.tobytes()
