"""What the diffusion methods are meant to do, checked on held-out pairs, each against the rule it has to beat.

    python benchmarks/equal_budget.py --methods drmf text_difuse dif_fusion mask_difuser … --output DIR
    python benchmarks/diffusion.py --output DIR --data roadscene.yaml --root DIR --limit 4

Methods whose training is not in OUTPUT/logs are left out. Prints a line per check, means over the test pairs.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from fusion_lightning.batch import MODALITIES, FusionBatch, FusionOutput, clean, sources
from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.imaging.color import cbcr_of, rgb_to_luma, with_chroma
from fusion_lightning.losses.functional import intensity_loss
from fusion_lightning.methods import (
    DRMF,
    Average,
    DiffusionRestorer,
    DifFusionStage1,
    DifFusionStage2,
    MaskDiFuser,
    TextDiFuse,
    load_method,
)
from fusion_lightning.methods.dif_fusion import stack
from fusion_lightning.methods.diffusion_restorer import ConditionalDiffusion
from fusion_lightning.metrics import fusion_metrics
from fusion_lightning.metrics.functional import psnr_to
from fusion_lightning.networks.fusion_control import FusionControl
from fusion_lightning.scoring import score_images
from fusion_lightning.text import counted

METRICS = ("MI", "VIF", "Qabf", "SSIM")
BRIGHTER = 0.2
"""By how much one source is to be brighter than the other to count as such."""

Checks = dict[str, float]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="of equal_budget.py")
    parser.add_argument("--data", default="synthetic.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--limit", type=int, help="at most so many pairs")
    arguments = parser.parse_args()
    checks: dict[str, tuple[str, Callable[..., Checks]]] = {
        "drmf_stage1": ("drfusion_noise", restorer),
        "text_difuse_stage1": ("drfusion_noise", restorer),
        "drmf_stage2": ("drfusion_noise", drmf),
        "text_difuse_stage2": ("drfusion_noise", text_difuse),
        "dif_fusion_stage1": ("drfusion_noise", dif_fusion_prior),
        "dif_fusion_stage2": ("drfusion_noise", dif_fusion),
        "mask_difuser": ("clean", mask_difuser),
    }
    for name, (scenario, check) in checks.items():
        path = arguments.output / "logs" / name / "budget" / "checkpoints" / "last.ckpt"
        if path.exists():
            method = load_method(path).eval()
            rows = [check(method, batch) for batch in islice(pairs(arguments, scenario), arguments.limit)]
            print(f"\n{name}, {scenario}, {counted(len(rows), 'pair')}")
            for key in rows[0]:
                print(f"  {key:44s} {sum(row[key] for row in rows) / len(rows):8.4f}", flush=True)


def pairs(arguments: argparse.Namespace, scenario: str) -> Iterator[FusionBatch]:
    fragment = read_data(arguments.data, arguments.root)
    data = FusionData(**{**fragment, "scenarios": [scenario], "batch_size": 1, "num_workers": 0})
    data.setup("test")
    return iter(data.test_dataloader())


def scores(name: str, batch: FusionBatch, output: FusionOutput) -> Checks:
    (row,) = score_images(batch, output, fusion_metrics(METRICS, prefix=""))
    return {f"{name}: {key}": value for key, value in row["scores"].items()}


def restorer(method: DiffusionRestorer, batch: FusionBatch) -> Checks:
    return {key: value for key, value in scores("restored", batch, method.fuse(batch)).items() if "PSNR" in key}


def average(batch: FusionBatch, a: Tensor, b: Tensor) -> FusionOutput:
    luma = (rgb_to_luma(a) + rgb_to_luma(b)) / 2
    return FusionOutput(fused=with_chroma(luma, cbcr_of(a, b)))


def drmf(method: DRMF, batch: FusionBatch) -> Checks:
    output = method.fuse(batch)
    mean = average(batch, output["restored_a"], output["restored_b"])
    a, b = (rgb_to_luma(image) for image in clean(batch))
    weight = output["weight"]
    return {
        **scores("DRMF", batch, FusionOutput(fused=output["fused"])),
        **scores("average of its restorations", batch, mean),
        "intensity loss": float(intensity_loss(output["fused"], a, b)),
        "intensity loss at w = 0.5": float(intensity_loss(mean["fused"], a, b)),
        "w where a is brighter": mean_over(weight, a - b > BRIGHTER),
        "w where b is brighter": mean_over(weight, b - a > BRIGHTER),
    }


def text_difuse(method: TextDiFuse, batch: FusionBatch) -> Checks:
    trained = scores("Text-DiFuse", batch, method.fuse(batch))
    control, method.control = method.control, FusionControl(method.restorer.network("a").widths)
    untrained = scores("mean of maps", batch, method.fuse(batch))
    method.control = control
    return {**trained, **untrained, **scores("restored, averaged", batch, restored_average(method.restorer, batch))}


def restored_average(diffusion: ConditionalDiffusion, batch: FusionBatch) -> FusionOutput:
    images = []
    for modality, source in zip(MODALITIES, sources(batch), strict=True):
        walk = diffusion.walk(modality, diffusion.condition(source), generators_for(batch["name"], 0))
        images.append(diffusion.image(walk[-1].clean, source))
    return average(batch, *images)


def dif_fusion_prior(method: DifFusionStage1, batch: FusionBatch) -> Checks:
    x = stack(*clean(batch))
    losses = [float(method.prior.loss(x, generators_for(batch["name"], draw))) for draw in range(3)]
    restored = {key: value for key, value in scores("one step", batch, method.fuse(batch)).items() if "PSNR" in key}
    return {"noise loss": sum(losses) / len(losses), **restored}


def dif_fusion(method: DifFusionStage2, batch: FusionBatch) -> Checks:
    return {
        **scores("Dif-Fusion", batch, method.fuse(batch)),
        **scores("average of the sources", batch, Average().fuse(batch)),
    }


def mask_difuser(method: MaskDiFuser, batch: FusionBatch) -> Checks:
    x, a, b = method.views(batch, generators_for(batch["name"], 0))
    drawn = method.draw(a, b, generators_for(batch["name"], 0))
    image = (x + 1) / 2
    return {
        "mean of the views: PSNR": float(psnr_to((a + b + 2) / 4, image)),
        "drawn from the views: PSNR": float(psnr_to(drawn, image)),
        **scores("Mask-DiFuser", batch, method.fuse(batch)),
        **scores("average", batch, Average().fuse(batch)),
    }


def mean_over(values: Tensor, where: Tensor) -> float:
    """The mean over some pixels; of all, where there are none."""
    return float(values[where].mean() if where.any() else values.mean())


if __name__ == "__main__":
    main()
