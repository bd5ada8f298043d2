"""Contact sheets: labelled pictures side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from fusion_lightning.imaging.convert import to_image

_LABEL_HEIGHT = 22
_GAP = 4
_PAGE = 1600
"""Widest sheet in pixels: a wider one cannot be read on a screen or a page."""


def contact_sheet(rows: Sequence[Sequence[Tensor]], labels: Sequence[str], width: int | None = None) -> np.ndarray:
    """Lay pictures out in labelled columns; the columns of a sheet wider than 1,600 pixels go on below.

    Args:
        rows: Rows of pictures (1 or 3, H, W) in [0, 1]; every row has as many as there are labels. Pictures are
            scaled to the width of the first one of the sheet.
        labels: What each column shows.
        width: Width of a column in pixels; None takes the widest picture of the first row.

    Returns:
        An RGB image (H, W, 3), uint8.
    """
    width = width or max(picture.shape[-1] for picture in rows[0])
    fitting = max(1, (_PAGE + _GAP) // (width + _GAP))
    columns = -(-len(labels) // -(-len(labels) // fitting))  # as many in every block
    sheet = [
        line
        for first in range(0, len(labels), columns)
        for line in _block([row[first : first + columns] for row in rows], labels[first : first + columns], width)
    ]
    whole = max(line.shape[1] for line in sheet)
    return np.concatenate(
        [np.pad(line, ((0, _GAP), (0, whole - line.shape[1]), (0, 0)), constant_values=255) for line in sheet]
    )


def _block(rows: Sequence[Sequence[Tensor]], labels: Sequence[str], width: int) -> list[np.ndarray]:
    """Some columns: the line of labels, then the rows of pictures."""
    lines = [_join([_label(text, width) for text in labels])]
    for row in rows:
        pictures = [_scale(_rgb(to_image(picture)), width) for picture in row]
        height = max(picture.shape[0] for picture in pictures)
        lines.append(_join([_pad(picture, height) for picture in pictures]))
    return lines


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _scale(image: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    smaller = width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)


def _pad(image: np.ndarray, height: int) -> np.ndarray:
    return np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0)), constant_values=255)


def _label(text: str, width: int) -> np.ndarray:
    strip = np.full((_LABEL_HEIGHT, width, 3), 255, np.uint8)
    size = 0.45
    while size > 0.2 and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] > width - 4:
        size -= 0.02
    return cv2.putText(strip, text, (3, 15), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)


def _join(images: Sequence[np.ndarray]) -> np.ndarray:
    gap = np.full((images[0].shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)
