"""What bfloat16 changes and saves on trained weights: each model fuses the same validation pairs in both number types.

    python benchmarks/precision.py cled CKPT --root data/RoadScene
    python benchmarks/precision.py IFCNN=IFCNN-MAX.pth SeAFusion=SeAFusion.pth --root data/RoadScene --pairs 4

A model is a checkpoint, the name of one that ships, or METHOD=FILE with published weights. Printed are the mean over
the pairs and, in brackets, the largest of them: dB between both fusions, what bfloat16 adds to the PSNR of the restored
sources and to the scores against the clean sources, and processor seconds.
"""

import argparse
import time
from statistics import fmean

import torch
from torch import Tensor

from fusion_lightning import methods
from fusion_lightning.allocator import keep_freed_memory
from fusion_lightning.batch import FusionBatch
from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.methods.loading import load_method
from fusion_lightning.metrics import fusion_metrics
from fusion_lightning.metrics.functional import psnr_to
from fusion_lightning.text import counted


def main() -> None:
    """Print a line per model and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", default="roadscene.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", required=True, help="the data set's folder")
    parser.add_argument("--scenario", default="drfusion_noise")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    fragment = read_data(options.data, options.root)
    data = FusionData(**{**fragment, "scenarios": [options.scenario], "batch_size": 1})
    data.setup("validate")
    batches = [batch for _, batch in zip(range(options.pairs), data.val_dataloader(), strict=False)]
    for model in options.models:
        method = load(model).eval().to(memory_format=torch.channels_last)
        rows = [compare(method, batch) for batch in batches]
        print(f"\n{model}, {counted(len(rows), 'pair')} under {options.scenario}")
        for name in rows[0]:
            values = [row[name] for row in rows]
            print(f"  {name:24} {fmean(values):+9.4f}  ({max(values, key=abs):+.4f})")


def load(model: str) -> methods.FusionMethod:
    """A model by its name."""
    method, _, weights = model.partition("=")
    if weights:
        published: methods.FusionMethod = getattr(methods, method)(weights=weights)
        return published
    return load_method(model)


def compare(method: methods.FusionMethod, batch: FusionBatch) -> dict[str, float]:
    """Both results of a pair, beside each other; a stage that only restores has no fusion to score."""
    outputs, seconds = [], []
    for bf16 in (False, True):
        start = time.process_time()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = method.fuse(batch)
        seconds.append(time.process_time() - start)
        outputs.append({name: part.float() for name, part in found.items() if isinstance(part, Tensor)})
    exact, rough = outputs
    row = {
        f"dB between {part}": psnr_to(rough[part], exact[part]).item()
        for part in ("fused", "restored_a", "restored_b")
        if part in exact
    }
    clean = batch["clean_a"], batch["clean_b"]
    for side, target in zip("ab", clean, strict=True):
        if (part := f"restored_{side}") in exact:
            row[f"PSNR of {side}"] = (psnr_to(rough[part], target) - psnr_to(exact[part], target)).item()
    for name, metric in fusion_metrics(["MI", "VIF", "Qabf", "SSIM"] if "fused" in exact else [], prefix="").items():
        scores = [float(metric.per_image(output["fused"], *clean)) for output in outputs]
        row[name] = scores[1] - scores[0]
    return row | {"seconds, float32": seconds[0], "seconds, bf16": seconds[1]}


if __name__ == "__main__":
    main()
