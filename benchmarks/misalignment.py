"""What misalignment costs a fusion, and what registration gives back: severities 0 to 5, as curves.

    python benchmarks/misalignment.py --source-a DIR --source-b DIR --output DIR [--checkpoint CKPT] [--crop 256]

Source a is moved by `misalign@SEVERITY`, aligned in every way, fused, and scored against the sources as they were; the
column of the true warp is the ceiling. Writes scores.csv and, with matplotlib, misalignment.png: means over the pairs
and their 95 % bootstrap intervals.
"""

import argparse
import csv
import io
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.progress import track
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules.pairing import pair_images
from fusion_lightning.datamodules.pairs import read_sources
from fusion_lightning.degradations import Misalign, degrade, true_warps
from fusion_lightning.files import write_atomic
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.convert import to_float, to_tensor
from fusion_lightning.imaging.windows import Window
from fusion_lightning.methods import ClassicalRegistration, FusionMethod, build_method
from fusion_lightning.metrics import METRICS
from fusion_lightning.metrics.functional import epe

SCORES = ("Qabf", "VIF")
BORDER = 32
"""Pixels at every side that are not scored: what was moved out of the image is nowhere."""


def moved_pair(files: dict[str, str], severity: int, seed: int) -> FusionBatch:
    """A pair whose source a is moved."""
    images = read_sources(files, (Window(), Window()))
    a, b = (to_float(images[side]) for side in "ab")
    effects = []
    delivered = a
    if severity:
        delivered, effects = degrade(a, Misalign.at_severity(severity), np.random.default_rng((seed, severity)))
    one, two, clean = (to_tensor(image)[None] for image in (delivered, b, a))
    degradation = [{"scenario": "misaligned", "a": effects, "b": []}]
    return FusionBatch(
        source_a=one, source_b=two, clean_a=clean, clean_b=two, degradation=degradation, name=[Path(files["a"]).stem]
    )


def inner(image: Tensor) -> Tensor:
    """An image without its border."""
    return image[..., BORDER:-BORDER, BORDER:-BORDER]


def middle(image: Tensor, side: int | None) -> Tensor:
    """The middle of an image, of so many pixels a side at most; the whole without a side."""
    height, width = image.shape[-2:]
    top, left = (max(0, length - side) // 2 if side else 0 for length in (height, width))
    return image[..., top : top + (side or height), left : left + (side or width)]


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source-a", required=True)
    parser.add_argument("--source-b", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--checkpoint", help="of a RegistrationNet, or the name of one that ships")
    parser.add_argument("--pairs", type=int, default=11)
    fusers_help = "names, classes, checkpoints, or classes with arguments, '{class_path: SeAFusion, init_args: {…}}'"
    parser.add_argument("--fusers", nargs="+", default=["guided", "cled"], help=fusers_help)
    parser.add_argument("--crop", type=int, help="side of the middle part that is fused; the whole image without it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = pair_images({"--source-a": options.source_a, "--source-b": options.source_b})
    registrations = {"classical": ClassicalRegistration().eval()}
    if options.checkpoint:
        registrations["network"] = build_method(options.checkpoint).eval()
    specifications = [yaml.safe_load(one) for one in options.fusers]
    fusers = {one if isinstance(one, str) else one["class_path"]: build_method(one) for one in specifications}
    rows: list[dict[str, str | float]] = []
    for index, (name, files) in enumerate(track(list(pairs.items())[: options.pairs])):
        for severity in range(6):
            paths = dict(zip("ab", map(str, files.values()), strict=True))
            batch = moved_pair(paths, severity, index)
            known = true_warps(batch)
            still = warps.identity((known.shape[-2], known.shape[-1]), known)
            ways = {"none": still, "true warp": known}
            ways |= {way: one.fuse(batch)["warp_a"] for way, one in registrations.items()}
            as_delivered = scores(batch, batch["source_a"], fusers, options.crop)
            for way, warp in ways.items():
                row: dict[str, str | float] = {"name": name, "severity": severity, "registration": way}
                row["EPE"] = epe(warp, known).item()
                # nothing is moved where there is nothing to move: the very pixels
                if torch.equal(warp, still):
                    row |= as_delivered
                else:
                    row |= scores(batch, warps.sample(batch["source_a"], warp), fusers, options.crop)
                rows.append(row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    folder = Path(options.output)
    write_atomic(folder / "scores.csv", text.getvalue())
    for key in list(rows[0])[3:]:
        print(f"\n{key}: mean [95 % interval] at severities 0 to 5")
        for way in ways:
            print(f"  {way:10}", "  ".join("{:6.3f} [{:.3f}, {:.3f}]".format(*one) for one in curve(rows, way, key)))
    draw(rows, list(ways), folder / "misalignment.png")


def scores(batch: FusionBatch, aligned: Tensor, fusers: dict[str, FusionMethod], crop: int | None) -> dict[str, float]:
    """Fuse a pair whose source a was aligned, and score that against the sources as they were."""
    # b stood still: it is clean
    a, b, clean_a = (middle(image, crop) for image in (aligned, batch["source_b"], batch["clean_a"]))
    found = {}
    for fuser, method in fusers.items():
        fused = method.fuse(FusionBatch(**{**batch, "source_a": a, "source_b": b}))["fused"]
        images = [inner(image) for image in (fused, clean_a, b)]
        found |= {f"{fuser} {key}": METRICS[key]().per_image(*images).item() for key in SCORES}
    return found


def curve(rows: list[dict[str, str | float]], way: str, key: str) -> list[tuple[float, float, float]]:
    """Mean and interval at every severity."""
    points = []
    for severity in range(6):
        values = np.array([row[key] for row in rows if (row["registration"], row["severity"]) == (way, severity)])
        points.append((float(values.mean()), *interval(values)))
    return points


def draw(rows: list[dict[str, str | float]], ways: list[str], path: Path) -> None:
    """A panel per score, a curve per registration."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    keys = list(rows[0])[3:]
    figure, axes = pyplot.subplots(1, len(keys), figsize=(3.2 * len(keys), 3), layout="constrained")
    for axis, key in zip(axes, keys, strict=True):
        for way in ways:
            mean, low, high = np.array(curve(rows, way, key)).T
            axis.plot(range(6), mean, label=way, marker="o", markersize=3)
            axis.fill_between(range(6), low, high, alpha=0.15)
        axis.set(title=key, xlabel="severity")
    axes[0].set(ylabel="pixels", yscale="symlog")
    axes[0].legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90)
    write_atomic(path, picture.getvalue())


if __name__ == "__main__":
    main()
