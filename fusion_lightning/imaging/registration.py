"""Classical registration of two modalities: an affine map that correlates their normalised edges.

Maximises the enhanced correlation coefficient (Evangelidis and Psarakis 2008) from coarse to fine, and trusts a result
only if the way back agrees with it and edges agree clearly better than they did before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from fusion_lightning.imaging.scans import on_black

_SIZES = (8, 4, 2, 1)
"""Of the pyramid: how many times smaller."""
_SMALLEST = 32
"""Pixels of a side below which there is nothing to register."""
_FLAT = 2 / 255
"""Least contrast of an image with edges."""
_COARSEST = 24
"""Pixels of a side of the pyramid's smallest image."""
_FARTHEST = 0.2
"""Part of a side by which a frame's middle may move."""
_DISTORTION = 0.35
"""By how much of its length an affine map may change a vector: 20 degrees, or about a third larger or smaller."""
AGREE = 3.0
"""Pixels by which there and back may differ; a warp that moves less needs no further proof."""
CORRELATION = 0.08
"""Least correlation of edges, in the overlap, that proves a warp."""
_LIES_WELL = 0.5
"""Part of the best correlation that edges may have without any motion: beyond, moving them is not worth the risk."""
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 80, 1e-5)


@dataclass(frozen=True)
class Alignment:
    """How source a lies to source b.

    Attributes:
        matrix: The affine map (2, 3) from pixels of b's frame to those of a; the identity where none is trusted.
        correlation: Of the edges, in the overlap.
        refused: Why none is trusted, as the end of a sentence; None if it is.
        scans: Whether that is because both are scans.
    """

    matrix: np.ndarray
    correlation: float = 0.0
    refused: str | None = None
    scans: bool = False


def align(a: np.ndarray, b: np.ndarray) -> Alignment:
    """Find where each pixel of grey image b lies in grey image a, both (H, W), float32 in [0, 1].

    The identity, and why, where the images are too small or flat, where both are scans, whose edges are those of
    different tissue, where the map from b to a does not undo that from a to b, where the edges do not agree, or where
    they agree nearly as well without any motion.
    """
    still = np.eye(2, 3)
    if (reason := unfit(a, b)) is not None:
        return Alignment(still, refused=reason)
    if on_black(a) and on_black(b):
        reason = "both lie on a black ground, as scans do, whose edges are of different tissue"
        return Alignment(still, refused=reason, scans=True)
    pyramids = edge_pyramid(a), edge_pyramid(b)
    matrix, score = register(*pyramids)
    back, _ = register(*reversed(pyramids))
    apart = mean_motion(_join(matrix, back), b.shape)
    if apart > AGREE:
        return Alignment(still, score, f"the ways there and back differ by {apart:.1f} pixels")
    if score < CORRELATION and mean_motion(matrix, b.shape) >= AGREE:
        return Alignment(still, score, f"its edges agree too little with those of source b ({score:.2f})")
    before = correlate(pyramids[0][-1][1], pyramids[1][-1][1], still)
    if before >= _LIES_WELL * score:
        return Alignment(still, before, f"its edges agree hardly less as it lies ({before:.2f}, moved {score:.2f})")
    return Alignment(matrix, score)


def unfit(a: np.ndarray, b: np.ndarray) -> str | None:
    """Why two images (H, W) in [0, 1] cannot be registered at all, as the end of a sentence; None if they can."""
    if min(b.shape) < _SMALLEST:
        return f"a side of less than {_SMALLEST} pixels shows too few edges"
    flat = [name for name, image in (("a", a), ("b", b)) if float(image.max() - image.min()) < _FLAT]
    return f"source {flat[0]} is of one grey level" if flat else None


Pyramid = list[tuple[int, np.ndarray]]
"""Edges at every size, smallest first: how many times smaller, and the image."""


def register(a: Pyramid, b: Pyramid) -> tuple[np.ndarray, float]:
    """The plausible affine map from b's pixels to a's under which edges correlate best, and that correlation."""
    best, score = np.eye(2, 3), correlate(a[-1][1], b[-1][1], np.eye(2, 3))
    for matrix in _starts(a, b):
        for motion in (cv2.MOTION_EUCLIDEAN, cv2.MOTION_AFFINE):
            for (factor, small_a), (_, small_b) in zip(a, b, strict=True):
                matrix = _improved(matrix, small_a, small_b, factor, motion)
        found = correlate(a[-1][1], b[-1][1], matrix)
        if found > score:
            best, score = matrix, found
    return best, score


def correlate(a: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> float:
    """The correlation of b with a seen through a map, over the pixels that both have; −1 below half of them."""
    size = (b.shape[1], b.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(a, matrix, size, flags=flags)
    seen = cv2.warpAffine(np.ones_like(a), matrix, size, flags=flags) > 0.99
    if seen.mean() < 0.5:
        return -1.0
    return correlation(moved[seen], b[seen])


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of values (N,); 0 where one of them is constant."""
    x, y = x - x.mean(dtype=np.float64), y - y.mean(dtype=np.float64)
    return float((x * y).sum() / max(np.sqrt((x * x).sum() * (y * y).sum()), 1e-12))


def mean_motion(matrix: np.ndarray, shape: tuple[int, ...]) -> float:
    """Mean distance in pixels by which an affine map moves the pixels of a frame (H, W)."""
    y, x = np.mgrid[: shape[0] : 4, : shape[1] : 4]
    moved = [row[0] * x + row[1] * y + row[2] for row in matrix]
    return float(np.hypot(moved[0] - x, moved[1] - y).mean())


def edges(image: np.ndarray) -> np.ndarray:
    """How strong edges are, compared with those around: what two modalities share; (H, W) in [0, 1], float32."""
    levels = np.rint(image * 255).astype(np.uint8)
    even = cv2.createCLAHE(4.0, (8, 8)).apply(levels).astype(np.float32)
    smooth = cv2.GaussianBlur(even, (0, 0), 1)
    size = cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    relative = np.log1p(size / max(float(size.mean()), 1e-6))
    mean = cv2.GaussianBlur(relative, (0, 0), 16)
    variance = cv2.GaussianBlur(relative * relative, (0, 0), 16) - mean * mean
    return np.asarray((relative - mean) / np.sqrt(np.maximum(variance, 1e-4)), np.float32)


def edge_pyramid(image: np.ndarray) -> Pyramid:
    """The edges of the full size, averaged: those of a reduced image are others, and lead astray."""
    full, levels = edges(image), []
    for factor in _SIZES:
        size = (round(image.shape[1] / factor), round(image.shape[0] / factor))
        if min(size) >= _COARSEST or factor == 1:
            levels.append((factor, cv2.resize(full, size, interpolation=cv2.INTER_AREA)))
    return levels


def _starts(a: Pyramid, b: Pyramid) -> Iterator[np.ndarray]:
    """Where to begin: no motion, and the shift of the strongest phase correlation at a quarter of the size."""
    yield np.eye(2, 3)
    level = min(1, len(a) - 1)
    factor = a[level][0]
    window = cv2.createHanningWindow(a[level][1].shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(b[level][1], a[level][1], window)
    yield np.array([[1, 0, factor * x], [0, 1, factor * y]])


def _improved(matrix: np.ndarray, a: np.ndarray, b: np.ndarray, factor: int, motion: int) -> np.ndarray:
    """A map, in pixels of the full size, after ECC at one size; as it was where that gives nothing plausible."""
    scaled = matrix.astype(np.float32)
    # pixel centres are whole numbers: those of the smaller image lie at factor · i + (factor − 1) / 2
    middle = (factor - 1) / 2
    scaled[:, 2] = (matrix[:, 2] + middle * (matrix[:, 0] + matrix[:, 1]) - middle) / factor
    try:
        _, improved = cv2.findTransformECC(b, a, scaled, motion, _CRITERIA, np.ones(b.shape, np.uint8), 5)
    except cv2.error:  # it did not converge
        return matrix
    found = np.asarray(improved).astype(np.float64)
    found[:, 2] = factor * found[:, 2] + middle - middle * (found[:, 0] + found[:, 1])
    shape = (factor * b.shape[0], factor * b.shape[1])
    return found if _plausible(found, shape) else matrix


def _plausible(matrix: np.ndarray, shape: tuple[int, int]) -> bool:
    if not np.isfinite(matrix).all():
        return False
    middle = np.array([shape[1] / 2, shape[0] / 2])
    moved = matrix[:, :2] @ middle + matrix[:, 2] - middle
    near = (np.abs(moved) < _FARTHEST * np.array([shape[1], shape[0]])).all()
    return bool(near and np.linalg.norm(matrix[:, :2] - np.eye(2), ord=2) <= _DISTORTION)


def _join(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map p ↦ outer(inner(p))."""
    linear = outer[:, :2] @ inner[:, :2]
    return np.column_stack((linear, outer[:, :2] @ inner[:, 2] + outer[:, 2]))
