"""Draw what a method's controls do to a pair, and print whether they act in one direction: the model cards' strips.

    python benchmarks/controls.py --method cled --source-a IR.png --source-b VIS.png --output strip.jpg

The first row removes more and more of both degradations, the second leans from source a to source b. Printed are the
distance of the fusion from the one at strength 1, and the correlation of its luma with both restored sources.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, SampleDegradation
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.methods import build_method

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", required=True)
    parser.add_argument("--source-a", type=Path, required=True)
    parser.add_argument("--source-b", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    a = to_tensor(read_image(arguments.source_a, channels=1))[None]
    b = to_tensor(read_image(arguments.source_b, channels=3))[None]
    untouched = SampleDegradation(scenario="delivered", a=[], b=[])
    batch = FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[untouched], name=["pair"])
    method = build_method(arguments.method)
    with torch.inference_mode():
        stronger = [method(batch, Controls(strength_a=share, strength_b=share)) for share in SHARES]
        leaning = [method(batch, Controls(balance=share))["fused"] for share in SHARES]
    removed = [output["fused"] for output in stronger]
    for share, image in zip(SHARES, removed, strict=True):
        print(f"strength {share:.2f}: {255 * float((image - removed[-1]).abs().mean()):.2f} levels from strength 1")
    ends = [stronger[-1]["restored_a"], stronger[-1]["restored_b"]]
    for share, image in zip(SHARES, leaning, strict=True):
        print(f"balance {share:.2f}: correlation {', '.join(f'{correlation(image, end):.3f}' for end in ends)}")
    rows = [[image[0] for image in row] for row in (removed, leaning)]
    sheet = contact_sheet(rows, [f"strength, balance {share:g}" for share in SHARES], 312)
    write_image(arguments.output, sheet)


def correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((rgb_to_luma(x).flatten(), rgb_to_luma(y).flatten())))[0, 1])


if __name__ == "__main__":
    main()
