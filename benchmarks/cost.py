"""What the methods of the field cost for one pair: calls of their networks, parameters, processor seconds.

    python benchmarks/cost.py
    python benchmarks/cost.py --methods DRMF CCF --height 256 --width 256

Tiny networks as trainings of minutes have them, three steps where `predict_clean.yaml` has three, not trained, which
costs the same. Float32, one thread. DDFM's and CCF's time is proportional to their steps. A network whose parts are
called unequally often, as an encoder for each source before one decoder, shows the least and the most.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.methods import (
    CCF,
    DDFM,
    DRMF,
    IFCNN,
    PMGI,
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
    Restormer,
    RFFusion,
    SDNet,
    SeAFusion,
    TextDiFuse,
    U2Fusion,
    VDMUFusion,
    build_method,
)

FEW: dict[str, Any] = {"size": "tiny", "prediction": "clean", "times": "sampled", "sampling_steps": 3}
"""`small.yaml` and `predict_clean.yaml`."""
RGB = {**FEW, "luma": False, "shared_network": False}
LUMA = {**FEW, "luma": True, "shared_network": True}

METHODS: dict[str, Callable[[], FusionMethod]] = {
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
    "Restormer": lambda: Restormer(size="tiny"),
    "CLED-Fusion": lambda: build_method("cled"),
    "DRFusion": lambda: DRFusion(size="tiny"),
    "VDMUFusion": lambda: VDMUFusion(size="tiny"),
    "Dif-Fusion": lambda: DifFusionStage2(size="tiny", stage1={"size": "tiny"}),
    "Mask-DiFuser": lambda: MaskDiFuser(**FEW),
    "DiffusionRestorer of RGB": lambda: DiffusionRestorer(**RGB),
    "DRMF": lambda: DRMF(size="tiny", stage1=RGB),
    "Text-DiFuse": lambda: TextDiFuse(stage1=LUMA),
    "DDFM, 10 steps": lambda: DDFM(size="tiny", sampling_steps=10),
    "CCF, 50 steps": lambda: CCF(size="tiny", sampling_steps=50),
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", choices=METHODS, help="these alone", metavar="NAME")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | calls of its networks | M parameters | s |\n| --- | --- | ---: | ---: |")
    for name in arguments.methods or METHODS:
        method = METHODS[name]().eval()
        method.fuse(pair(64, 64))  # what only a first call does
        calls = Counter[nn.Module]()
        networks = dict(outermost(method))
        for network in networks.values():
            for layer in convolutions(network):
                layer.register_forward_hook(lambda layer, *_, calls=calls: calls.update([layer]))
        start = time.process_time()
        method.fuse(pair(arguments.height, arguments.width))
        seconds = time.process_time() - start
        said = ", ".join(f"{label} {spread(calls, one)}" for label, one in networks.items() if any(convolutions(one)))
        millions = sum(parameter.numel() for parameter in method.parameters()) / 1e6
        print(f"| {name} | {said or 'none'} | {millions:.2f} | {seconds:.2f} |", flush=True)


def pair(height: int, width: int) -> FusionBatch:
    """An infrared and a visible image of noise."""
    a, b = torch.rand(1, 1, height, width), torch.rand(1, 3, height, width)
    degradation = SampleDegradation(scenario="clean", a=[], b=[])
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
