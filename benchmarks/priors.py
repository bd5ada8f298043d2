"""DDFM, CCF and RFfusion with the exact prior of a Gaussian field: what each does to pairs, whatever a network knows.

    python -m benchmarks.priors --root DIR
    python -m benchmarks.priors --root DIR --pairs 4 --prior logs/prior/RUN/checkpoints/last.ckpt

DIR is RoadScene's folder. The field has the mean and the power spectrum of training pairs, at every test pair's own
size: a perfect prior of its kind, one Fourier transform per call. Printed are means over the test pairs: the five
scores, and again of the result stretched to its own range; the rms distance from the average of the sources, in per
cent of their mean difference; the share of the infrared; calls of the prior; processor seconds per pair.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.diffusion.flow import from_velocity, to_line
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.convert import to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.methods import CCF, DDFM, FusionMethod, RFFusion, build_method
from fusion_lightning.methods.prior import Prior
from fusion_lightning.methods.prior_fusion import load_prior, stretched
from fusion_lightning.metrics import functional
from tests.reference.gaussian_prior import GaussianPrior

FOLDERS: tuple[tuple[str, Literal[1, 3]], ...] = (("cropinfrared", 1), ("crop_LR_visible", 3))
SCORES = ("mi", "vif", "qabf", "nabf", "ssim")


class Untrained(Prior):
    """What a velocity network says before training: nothing moves."""

    channels = 1

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """State and clean image are one but for their scale."""
        line, s = to_line(state, level.alpha_bar)
        return from_velocity(line, torch.zeros_like(line), s)


class Counting(Prior):
    """A prior that knows how often it was asked."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior, self.channels, self.calls = prior, prior.channels, 0

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """What the other one says."""
        self.calls += 1
        return self.prior.predict(state, level)


def pictures(root: Path, split: str, count: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, infrared and visible luma (1, 1, H, W) of the first pairs."""
    for path in sorted((root / split / "cropinfrared").iterdir())[:count]:
        images = (to_tensor(read_image(root / split / folder / path.name, channels)) for folder, channels in FOLDERS)
        yield path.stem, *(rgb_to_luma(image)[None] for image in images)


def field(others: list[Tensor], size: tuple[int, int]) -> GaussianPrior:
    """The Gaussian prior of other images, brought to a size."""
    resized = torch.cat([torch.nn.functional.interpolate(image, size, mode="area") for image in others])
    images = 2 * resized - 1
    spectrum = (
        torch.fft.fft2(images - images.mean(dim=(2, 3), keepdim=True), norm="ortho").abs().square().mean(dim=(0, 1))
    )
    spectrum[0, 0] = images.mean(dim=(2, 3)).var() * size[0] * size[1]
    return GaussianPrior(images.mean().expand(size), spectrum)


def methods() -> dict[str, tuple[Callable[[], FusionMethod], bool]]:
    """By name: how to build a method, and whether it is given a prior that was never trained."""
    return {
        "average": (lambda: build_method("Average"), False),
        "DDFM released": (lambda: DDFM(size="tiny"), False),
        "DDFM released, 25 steps": (lambda: DDFM(size="tiny", sampling_steps=25), False),
        "DDFM released, untrained": (lambda: DDFM(size="tiny"), True),
        "DDFM paper": (lambda: DDFM(size="tiny", likelihood="paper"), False),
        "DDFM paper, fixed scales": (lambda: DDFM(size="tiny", likelihood="paper", update_scales=False), False),
        "CCF": (lambda: CCF(size="tiny"), False),
        "CCF unbounded": (lambda: CCF(size="tiny", bounded=False), False),
        "RFfusion, no prior": (lambda: RFFusion(), False),
        "RFfusion": (lambda: _asking(RFFusion()), False),
        "RFfusion, level 0.5": (lambda: _asking(RFFusion(level=0.5)), False),
    }


def _asking(method: RFFusion) -> RFFusion:
    """With a place for the prior that `main` puts in."""
    method.prior = Untrained()
    return method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="RoadScene's folder")
    parser.add_argument("--pairs", type=int, default=1, help="each is about a minute of one core")
    parser.add_argument("--others", type=int, default=16, help="training pairs that the spectrum is of")
    parser.add_argument("--prior", help="a trained prior instead of the Gaussian one")
    parser.add_argument("--images", type=Path, help="where to write the fusions")
    parser.add_argument("--methods", nargs="*", help="these alone")
    arguments = parser.parse_args()
    others = [image for _, *pair in pictures(arguments.root, "train", arguments.others) for image in pair]
    pairs = list(pictures(arguments.root, "val", arguments.pairs))
    print(f"{'':28}{''.join(f'{name:>8}' for name in SCORES)}{'to avg':>8}{'share':>8}{'calls':>7}{'s':>7}")
    for name, (build, untrained) in methods().items():
        if arguments.methods and name not in arguments.methods:
            continue
        rows: list[list[float]] = []
        wide: list[list[float]] = []
        for stem, a, b in pairs:
            method = build().eval()
            known = load_prior(arguments.prior) if arguments.prior else field(others, (a.shape[2], a.shape[3]))
            counting = Counting(Untrained() if untrained else known)
            if getattr(method, "prior", None) is not None:
                method.prior = counting
            start = time.process_time()
            with torch.no_grad():
                fused = method.fuse(batch(stem, a, b))["fused"]
            seconds = time.process_time() - start
            apart = float((fused - (a + b) / 2).square().mean().sqrt() / (a - b).abs().mean())
            share = float(((fused - b) * (a - b)).sum() / (a - b).square().sum())
            rows.append([*scores(fused, a, b), 100 * apart, share, counting.calls, seconds])
            wide.append(scores(stretched(fused), a, b))
            if arguments.images:
                write_image(arguments.images / stem / f"{name}.png", to_image(fused[0]))
        means, ranged = (torch.tensor(table).mean(dim=0).tolist() for table in (rows, wide))
        apart, share, calls, seconds = means[len(SCORES) :]
        print(f"{name:28}{_columns(means[: len(SCORES)])}{apart:8.1f}{share:8.2f}{calls:7.0f}{seconds:7.1f}")
        print(f"{'  stretched':28}{_columns(ranged)}", flush=True)


def _columns(values: list[float]) -> str:
    return "".join(f"{value:8.3f}" for value in values)


def scores(fused: Tensor, a: Tensor, b: Tensor) -> list[float]:
    return [float(getattr(functional, name)(fused.clamp(0, 1), a, b)) for name in SCORES]


def batch(name: str, a: Tensor, b: Tensor) -> FusionBatch:
    degradation = SampleDegradation(scenario="clean", a=[], b=[])
    return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[degradation], name=[name])


if __name__ == "__main__":
    main()
