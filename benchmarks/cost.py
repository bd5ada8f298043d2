"""What the methods of the field cost for one pair: calls of their networks, parameters, processor seconds.

    python benchmarks/cost.py
    python benchmarks/cost.py --methods DRMF Text-DiFuse --height 256 --width 256
    python benchmarks/cost.py --scores OUTPUT/benchmark/scores.csv --data roadscene --picture quality_time.png

Tiny networks as trainings of minutes have them, three steps where `predict_clean.yaml` has three, not trained, which
costs the same. Those that are told the degradation are told noise. Float32, one thread. The time of DDFM and CCF is
proportional to their steps. A network whose parts are called unequally often, as an encoder for each source before one
decoder, shows the least and the most. With the scores of `benchmark`, those of its methods that have a name here are
measured, and drawn: quality against time.
"""

import argparse
import csv
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.degradations.specification import parse
from fusion_lightning.methods import (
    CCF,
    DDFM,
    DRMF,
    IFCNN,
    PMGI,
    Average,
    DenseFuse,
    DIDFuse,
    DiffusionRestorer,
    DifFusionStage2,
    DRFusion,
    FusionMethod,
    GIFNet,
    LaplacianPyramid,
    LRRNet,
    MaskDiFuser,
    RestoreThenFuse,
    Restormer,
    RFFusion,
    SDNet,
    SeAFusion,
    TextDiFuse,
    U2Fusion,
    VDMUFusion,
    build_method,
)
from fusion_lightning.methods.prior import VelocityPrior

FEW: dict[str, Any] = {"size": "tiny", "prediction": "clean", "times": "sampled", "sampling_steps": 3}
"""`small.yaml` and `predict_clean.yaml`."""
RGB = {**FEW, "luma": False, "shared_network": False}
LUMA = {**FEW, "luma": True, "shared_network": True}

DRAWN = ("MI", "VIF", "Qabf", "SSIM")

METHODS: dict[str, Callable[[], FusionMethod]] = {
    "average": Average,
    "RFfusion's rule": RFFusion,
    "Laplacian pyramid": LaplacianPyramid,
    "IFCNN": IFCNN,
    "U2Fusion": U2Fusion,
    "SeAFusion": SeAFusion,
    "DenseFuse": DenseFuse,
    "SDNet": SDNet,
    "PMGI": PMGI,
    "DIDFuse": DIDFuse,
    "LRRNet": LRRNet,
    "GIFNet": GIFNet,
    "textbook filters, then Laplacian": RestoreThenFuse,
    "Restormer, then Laplacian": lambda: restormer_first(),
    "CLED-Fusion": lambda: build_method("cled"),
    "DRFusion": lambda: DRFusion(size="tiny"),
    "VDMUFusion": lambda: VDMUFusion(size="tiny"),
    "Dif-Fusion": lambda: DifFusionStage2(size="tiny", stage1={"size": "tiny"}),
    "Mask-DiFuser": lambda: MaskDiFuser(**FEW),
    "DiffusionRestorer of RGB": lambda: DiffusionRestorer(**RGB),
    "DRMF": lambda: DRMF(size="tiny", stage1=RGB),
    "Text-DiFuse": lambda: TextDiFuse(stage1=LUMA),
    "RFfusion, trained prior": lambda: rffusion_with_prior(),
    "DDFM, 25 steps": lambda: DDFM(size="tiny", sampling_steps=25),
    "CCF, 50 steps": lambda: CCF(size="tiny", sampling_steps=50),
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=METHODS, help="these alone", metavar="NAME")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument(
        "--scores", type=Path, help="scores.csv of a benchmark: the methods in it are measured and drawn"
    )
    parser.add_argument("--data", default="roadscene", help="which of its data sets")
    parser.add_argument("--scenario", default="drfusion_noise", help="which of its scenarios")
    parser.add_argument("--picture", type=Path, default=Path("quality_time.png"), help="where to draw")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quality = read_quality(arguments.scores, arguments.data, arguments.scenario) if arguments.scores else {}
    seconds: dict[str, float] = {}
    print("| method | calls of its networks | M parameters | s |\n| --- | --- | ---: | ---: |")
    for name in arguments.methods or [one for one in METHODS if not quality or one in quality]:
        method = METHODS[name]().eval()
        method.fuse(pair(64, 64))  # what only a first call does
        calls = Counter[nn.Module]()
        networks = dict(outermost(method))
        for network in networks.values():
            for layer in convolutions(network):
                layer.register_forward_hook(lambda layer, *_, calls=calls: calls.update([layer]))
        start = time.process_time()
        method.fuse(pair(arguments.height, arguments.width))
        seconds[name] = time.process_time() - start
        said = ", ".join(f"{label} {spread(calls, one)}" for label, one in networks.items() if any(convolutions(one)))
        millions = sum(parameter.numel() for parameter in method.parameters()) / 1e6
        print(f"| {name} | {said or 'none'} | {millions:.2f} | {seconds[name]:.2f} |", flush=True)
    if quality:
        draw(seconds, quality, arguments.picture)


def restormer_first() -> RestoreThenFuse:
    """A method is built of trained parts; this one's restorer need not be."""
    method = RestoreThenFuse()
    method.restorer = Restormer(size="tiny")
    return method


def rffusion_with_prior() -> RFFusion:
    method = RFFusion()
    method.prior = VelocityPrior("tiny")
    return method


def read_quality(scores: Path, data: str, scenario: str) -> dict[str, dict[str, float]]:
    """By method, the means of the drawn metrics over the pairs of one data set under one scenario.

    One that was trained for this scenario alone, as ``DRFusion, noise``, is called by its own name.
    """
    found: dict[str, list[dict[str, str]]] = {}
    with scores.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["data"], row["scenario"]) == (data, scenario):
                found.setdefault(row["method"].removesuffix(f", {scenario.removeprefix('drfusion_')}"), []).append(row)
    return {name: {one: fmean(float(row[one]) for row in rows) for one in DRAWN} for name, rows in found.items()}


def draw(seconds: dict[str, float], quality: dict[str, dict[str, float]], picture: Path) -> None:
    """A panel per metric, the methods as labelled points over the logarithm of seconds."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(DRAWN), figsize=(4.2 * len(DRAWN) + 3, 4.2), layout="constrained")
    for axis, metric in zip(axes, DRAWN, strict=True):
        for index, (name, taken) in enumerate(seconds.items()):
            # ten colours a marker
            axis.plot(taken, quality[name][metric], "osD"[index // 10], markersize=8, label=name)
        axis.set(xscale="log", xlabel="processor seconds per pair", title=metric)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(picture, dpi=110)


def pair(height: int, width: int) -> FusionBatch:
    """An infrared and a visible image of noise."""
    a, b = torch.rand(1, 1, height, width), torch.rand(1, 3, height, width)
    noise = parse("noise(sigma=14)").plan(np.random.default_rng(0), (height, width))
    degradation = SampleDegradation(scenario="noise", a=noise, b=noise)
    return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[degradation], name=["pair"])


def outermost(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The networks of a method, by what they are called there."""
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        if type(child).__module__.startswith("fusion_lightning.networks"):
            yield place, child
        else:
            yield from outermost(child, place)


def convolutions(network: nn.Module) -> Iterator[nn.Module]:
    return (one for one in network.modules() if isinstance(one, nn.Conv2d))


def spread(calls: Counter[nn.Module], network: nn.Module) -> str:
    """How often its convolutions were called: one number, or the least and the most."""
    counts = sorted({calls[layer] for layer in convolutions(network)} - {0})
    return " to ".join(str(count) for count in sorted({counts[0], counts[-1]})) if counts else "0"


if __name__ == "__main__":
    main()
