"""Scans: told by the type of their files, or by the black ground that pictures of them lie on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion_lightning.imaging.io import SUFFIXES, read_stored
from fusion_lightning.imaging.volumes import is_medical

_BLACK = 0.25
"""Part of the outermost pixels that is exactly 0 in a scan: noise leaves half of them so, a camera's night has none."""


def on_black(image: np.ndarray) -> bool:
    """Whether an image (H, W) in [0, 1], or of a file's own values, lies on a black ground as a scan does."""
    border = np.concatenate((image[0], image[-1], image[:, 0], image[:, -1]))
    return bool((border < 0.5 / 255).mean() >= _BLACK)


def are_scans(files: Sequence[Path]) -> bool:
    """Whether the first two of some files, a pair, are scans.

    They are if one is NIfTI or DICOM, or if both are pictures that lie on black; with noise in their black, or on
    white, they are not told from other images.

    Raises:
        UserError: If one is an image that cannot be read.
    """
    pair = files[:2]
    if any(map(is_medical, pair)):
        return True
    return all(path.suffix.lower() in SUFFIXES and _shows_scan(path) for path in pair)


def _shows_scan(path: Path) -> bool:
    pixels = read_stored(str(path), as_suv=False).pixels
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    return bool(grey.max() > grey.min()) and on_black(grey)
