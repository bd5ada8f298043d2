"""Per-image scores of a method's output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

from torch import Tensor, nn

from fusion_lightning.batch import FusionBatch, FusionOutput, clean, sources
from fusion_lightning.degradations import Misalign, true_warps
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.resize import same_size
from fusion_lightning.metrics import EPE, FusionMetric, RestorationPSNR, RestorationSSIM, fusion_metrics, to_grey_levels
from fusion_lightning.metrics.functional import epe, psnr_to, ssim_to


class ScoreRow(TypedDict):
    """Scores of one image: what a row of the score table holds."""

    name: str
    scenario: str
    scores: dict[str, float]


class StepOutput(TypedDict):
    """What a validation or test step hands to the callbacks."""

    output: FusionOutput
    rows: list[ScoreRow]


class RestorationScore(NamedTuple):
    """A score of one source against its clean version."""

    key: str
    """Its name, with ``{}`` for the source, a or b."""
    score: Callable[[Tensor, Tensor], Tensor]
    """Images (B, C, H, W) and clean ones to values (B,)."""
    mean: type[RestorationPSNR | RestorationSSIM]
    """What averages it over a stage."""
    delivered: bool
    """Whether the source is scored as it was delivered, or as it was restored."""


RESTORATION_SCORES = (
    RestorationScore("PSNR_{}_in", psnr_to, RestorationPSNR, delivered=True),
    RestorationScore("PSNR_{}", psnr_to, RestorationPSNR, delivered=False),
    RestorationScore("SSIM_{}_in", ssim_to, RestorationSSIM, delivered=True),
    RestorationScore("SSIM_{}", ssim_to, RestorationSSIM, delivered=False),
)

REGISTRATION_SCORES = ("EPE_in", "EPE")
"""End-point errors of source a as it was delivered, and as it was aligned."""


def stage_means(metrics: Sequence[str]) -> nn.ModuleDict:
    """The means of a stage: of the fusion metrics, of restored and delivered sources' PSNR and SSIM, of warps' EPE."""
    means: dict[str, nn.Module] = dict(fusion_metrics(metrics, prefix="").items())
    for side in ("a", "b"):
        for one in RESTORATION_SCORES:
            means[one.key.format(side)] = one.mean()
    return nn.ModuleDict({**means, "PSNR_restored": RestorationPSNR(), **{key: EPE() for key in REGISTRATION_SCORES}})


def score_images(
    batch: FusionBatch,
    output: FusionOutput,
    metrics: Mapping[str, FusionMetric],
    score_against: Literal["clean", "delivered"] = "clean",
) -> list[ScoreRow]:
    """Score every image of a batch: the fusion by `metrics`, restored sources by `RESTORATION_SCORES`.

    A source that nothing was done to has no restoration scores: the PSNR of what was delivered is infinite there. A
    warp is scored where `Misalign` moved source a.
    """
    rows = [
        ScoreRow(name=name, scenario=degradation["scenario"], scores={})
        for name, degradation in zip(batch["name"], batch["degradation"], strict=True)
    ]
    if "fused" in output:
        references = clean(batch) if score_against == "clean" else sources(batch)
        levels = to_grey_levels(output["fused"], *references)
        for key, metric in metrics.items():
            for row, value in zip(rows, metric.score_grey(levels).tolist(), strict=True):
                row["scores"][key] = value
    for side, restored, source, target in (
        ("a", output.get("restored_a"), batch["source_a"], batch["clean_a"]),
        ("b", output.get("restored_b"), batch["source_b"], batch["clean_b"]),
    ):
        if restored is None:
            continue
        delivered = same_size(source, target)[0]
        degraded = (delivered != target).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        for one in RESTORATION_SCORES if degraded else ():
            image = delivered if one.delivered else restored
            for index, value in zip(degraded, one.score(image[degraded], target[degraded]).tolist(), strict=True):
                rows[index]["scores"][one.key.format(side)] = value
    moved = [any(one["name"] == Misalign.name for one in sample["a"]) for sample in batch["degradation"]]
    if "warp_a" in output and any(moved):
        known = true_warps(batch)
        still = warps.identity((known.shape[-2], known.shape[-1]), known).expand_as(known)
        for key, warp in zip(REGISTRATION_SCORES, (still, output["warp_a"]), strict=True):
            for row, value, counts in zip(rows, epe(warp, known).tolist(), moved, strict=True):
                if counts:
                    row["scores"][key] = value
    return rows
