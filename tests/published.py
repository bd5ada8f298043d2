"""How published images were made of what the published networks give, and how close ours come to them.

`python -m tests.published DIR` scores our networks' images, the same stretched alike, and the published ones; DIR holds
`data`, `weights` and `published`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fusion_lightning.methods import build_method
from fusion_lightning.methods.luma import LumaFusion
from fusion_lightning.metrics import METRICS, to_grey_levels


@dataclass(frozen=True)
class Published:
    """A published network: its weights, its images, how they were made, and what was reached before."""

    method: str
    weights: str
    parameters: int
    """Numbers in the file, but for the moments and counters of norms that PyTorch calls buffers."""
    unused: int
    """How many of them no fusion ever uses."""
    images: str
    names: tuple[str, ...]
    """The first is the smallest or the closest: the one that a fast test takes."""
    decibels: tuple[float, ...]
    """Published images and ours, PSNR."""
    levels: Callable[[np.ndarray], np.ndarray]
    """What the network gives, (H, W), to the 8 bits that were published."""
    pairs: str = "TNO"
    options: tuple[tuple[str, Any], ...] = ()
    slow: bool = False
    """256 maps at full size take their time."""

    def build(self, shared: Path) -> LumaFusion:
        """The method with its published weights."""
        arguments = {"weights": str(shared / "weights" / self.weights), **dict(self.options)}
        method = build_method({"class_path": self.method, "init_args": arguments})
        assert isinstance(method, LumaFusion)
        return method

    def sources(self, shared: Path, name: str) -> tuple[Tensor, Tensor]:
        """Both sources in grey, as the published inference read them."""
        folder = shared / "data" / self.pairs
        a, b = (cv2.imread(str(folder / side / f"{name}.png"), cv2.IMREAD_COLOR) for side in ("ir", "vi"))
        if self.method == "SDNet":
            return tuple(torch.from_numpy(through_ycbcr(image[..., 0]) / 255.0).float()[None, None] for image in (a, b))
        return tuple(torch.from_numpy(image[..., ::-1] @ LUMA / 255).float()[None, None] for image in (a, b))

    def published(self, shared: Path, name: str) -> np.ndarray:
        """The published image, (H, W) or (H, W, 3)."""
        image = cv2.imread(str(shared / "published" / self.images / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        return image if image.ndim == 2 else image[..., ::-1]


LUMA = np.array([0.299, 0.587, 0.114])


def rounded(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255)


def stretched(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float64)
    return (image - image.min()) / (image.max() - image.min())


def stretched_and_rounded(image: np.ndarray) -> np.ndarray:
    return rounded(stretched(image))


def stretched_and_cut(image: np.ndarray) -> np.ndarray:
    return np.floor(stretched(image) * 255)


def through_ycbcr(levels: np.ndarray) -> np.ndarray:
    """Grey levels as they come back from an imaging library's YCbCr: each product rounded to 1/64, the sum cut.

    22 of the 256 levels lose one.
    """
    table = sum(np.round(64 * weight * np.arange(256)).astype(int) for weight in LUMA) >> 6
    return table[levels]


PUBLISHED = {
    one.method.lower() + one.weights.removeprefix(one.method).removesuffix(".pth").lower(): one
    for one in (
        Published(
            "U2Fusion", "U2Fusion.pth", 659_217, 0, "TNO/U2Fusion",
            ("05", "01", "02", "09", "13", "17", "21", "25", "29", "33", "37", "41"), (91,) * 12, stretched_and_rounded,
        ),
        Published(
            "SeAFusion", "SeAFusion.pth", 166_883, 226, "TNO/SeAFusion",
            ("05", "01", "02", "09", "13", "17", "21", "25", "29", "33", "37", "41"), (92,) * 12, stretched_and_cut,
        ),
        Published(
            "DenseFuse", "DenseFuse.pth", 74_193, 0, "DenseFuse/TNO",
            ("05", "01", "17"), (88,) * 3, stretched_and_rounded, options=(("fusion", "sum"),),
        ),
        Published("SDNet", "SDNet.pth", 67_091, 0, "SDNet/TNO", ("05", "01", "17"), (95,) * 3, stretched_and_rounded),
        Published("PMGI", "PMGI.pth", 42_401, 768, "PMGI/TNO", ("05", "01", "17"), (58, 88, 91), stretched_and_rounded),
        Published("DIDFuse", "DIDFuse.pth", 260_935, 0, "DIDFuse/TNO", ("05", "01", "17", "29"), (97,) * 4, rounded),
        Published(
            "LRRNet", "LRRNet.pth", 49_204, 0, "LRRNet/TNO", ("17", "21"), (73, 70), stretched_and_cut, slow=True,
        ),
    )
}  # fmt: skip


def psnr(levels: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(levels - expected.astype(float)).mean(), 1e-9)))


def compare(one: Published, shared: Path) -> tuple[list[float], dict[str, list[list[float]]]]:
    """How close our images come to the published ones, and metric -> the scores of every image.

    Returns:
        PSNR of every image; three scores of each: ours as it is, ours made as was published, and the published one.
    """
    method = one.build(shared)
    method.setup("test")
    decibels: list[float] = []
    scores: dict[str, list[list[float]]] = {name: [] for name in METRICS}
    for image in one.names:
        a, b = one.sources(shared, image)
        with torch.no_grad():
            fused = method.fuse_luma(a, b)[0, 0].numpy()
        published = one.published(shared, image).astype(np.float64)
        grey = published if published.ndim == 2 else np.round(published @ LUMA)
        versions = (np.round(255 * fused.clip(0, 1)), one.levels(fused), grey)
        decibels.append(psnr(versions[1], grey))
        stack = torch.from_numpy(np.stack(versions)[:, None] / 255).float()
        levels = to_grey_levels(stack, *((source.expand_as(stack) * 255).round() / 255 for source in (a, b)))
        for name, metric in METRICS.items():
            scores[name].append(metric().score_grey(levels).tolist())
    return decibels, scores


def main(shared: Path, methods: list[str]) -> None:
    """Print a table per method."""
    for one in PUBLISHED.values():
        if methods and one.method not in methods:
            continue
        decibels, table = compare(one, shared)
        print(f"\n{one.method}: {', '.join(f'{value:.1f}' for value in decibels)} dB\n")
        print("| metric | ours | ours, made as published | published | furthest apart | moved by making |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, scores in table.items():
            ours, alike, published = np.mean(scores, axis=0)
            if np.isnan(ours):  # grey pictures have no colour to score
                continue
            apart = max(abs(score[1] - score[2]) for score in scores)
            moved = alike - ours
            print(f"| {name} | {ours:.4f} | {alike:.4f} | {published:.4f} | {apart:.4f} | {moved:+.4f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
