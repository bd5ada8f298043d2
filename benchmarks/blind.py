"""How well do estimators tell what went wrong? And what does not knowing cost a method that has to be told?

    python benchmarks/blind.py --estimator CKPT --data roadscene.yaml --root DIR --output OUT
    python benchmarks/blind.py --estimator CKPT --method CKPT --data roadscene.yaml --root DIR --output OUT

Held-out images suffer nothing, one effect, or two. Prints, as markdown, how often the kinds were named exactly, what
was taken for what, and the mean error of every parameter; OUTPUT/calibration.png compares the confidence with how often
it was right. The textbook rules stand beside. With ``--method`` the method is also told the truth, what was estimated,
and nothing.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fusion_lightning.batch import FusionBatch, FusionSample, SampleDegradation, collate
from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.degradations import degrade, parse
from fusion_lightning.degradations.labels import KINDS, seen_kinds
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.methods import ClassicalEstimator, Estimator, build_method
from fusion_lightning.methods.degradation_estimator import distance
from fusion_lightning.metrics.functional import psnr_to, vif

Degraded = FusionBatch
"""A pair that suffered what its `degradation` says."""

SINGLE = [
    "noise(sigma=3..25)", "noise(sigma=3..25)", "blur(sigma=0.8..3)", "blur(sigma=0.8..3)", "motion_blur(length=5..20)",
    "defocus(radius=2..5)", "downsample(2..5, up=true)", "poisson(peak=10..100)", "stripes(sigma=4..15)",
    "salt_pepper@3", "iso_noise(intensity=0.1..0.3)", "jpeg(quality=8..40)", "quantize(levels=6..32)", "low_light",
    "over_exposure", "low_contrast", "haze", "rain",
]  # fmt: skip
"""One effect each; of the two whose strength matters most, two."""
COMPOSED = [
    "blur(sigma=0.8..3)+noise(sigma=5..20)",
    "motion_blur(length=5..15)+noise(sigma=5..20)",
    "stripes+noise(sigma=5..15)",
    "blur(sigma=0.8..3)+jpeg(quality=15..40)",
    "downsample(2..4, up=true)+noise(sigma=5..15)",
    "haze+noise(sigma=5..15)",
    "low_contrast+stripes(sigma=4..10)",
    "rain+blur(sigma=0.8..2)",
]
"""Two effects, one after the other."""
_MISTAKES = 20
"""So many are printed, the most frequent ones first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimator", default="ClassicalEstimator", help="a checkpoint or a class")
    parser.add_argument("--method", help="a checkpoint that is told the degradation")
    parser.add_argument("--data", default="synthetic.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--limit", type=int, default=11, help="pairs")
    parser.add_argument("--rounds", type=int, default=1, help="how often all effects are drawn anew")
    parser.add_argument("--crop", type=int, help="side of the middle part that is used; the whole image without it")
    parser.add_argument("--output", type=Path, default=Path("blind"))
    arguments = parser.parse_args()
    pairs = clean_pairs(arguments.data, arguments.root, arguments.limit, arguments.crop)
    estimator = build_method(arguments.estimator)
    assert isinstance(estimator, Estimator)
    sure: list[tuple[float, bool]] = []
    for name, one in {"classical": ClassicalEstimator(), "estimator": estimator}.items():
        print(f"\n**{name}**: {type(one).__name__}")
        sure = accuracy(one, pairs, arguments.rounds)
    draw_calibration(sure, arguments.output / "calibration.png")
    if arguments.method:
        cost(arguments.method, estimator, pairs)


def clean_pairs(data: str, root: str | None, limit: int, crop: int | None) -> list[FusionSample]:
    """The first test pairs of a data set, as delivered; their middle parts."""
    fragment = read_data(data, root)
    module = FusionData(**{**fragment, "scenarios": [], "num_workers": 0})
    module.setup("test")
    samples = []
    for number, batch in enumerate(module.test_dataloader()):
        if number == limit:
            break
        sample = {key: value[0] for key, value in batch.items()}
        for key in ("source_a", "source_b", "clean_a", "clean_b") if crop else ():
            height, width = sample[key].shape[-2:]
            top, left = max(0, height - crop) // 2, max(0, width - crop) // 2
            sample[key] = sample[key][:, top : top + crop, left : left + crop]
        samples.append(FusionSample(**sample))
    return samples


def degraded_pair(pair: FusionSample, specification: str, seed: int) -> Degraded:
    """A pair both sources of which suffer the same, stored in 8 bits."""
    images, effects = [], []
    for side, clean in enumerate((pair["clean_a"], pair["clean_b"])):
        generator = np.random.default_rng((seed, side))
        image, applied = degrade(clean.permute(1, 2, 0).numpy(), parse(specification), generator)
        images.append((to_tensor(image) * 255).round() / 255)
        effects.append(applied)
    degradation = SampleDegradation(scenario=specification, a=effects[0], b=effects[1])
    a, b = images
    return collate([FusionSample(**{**pair, "source_a": a, "source_b": b, "degradation": degradation})])  # type: ignore[typeddict-item]


def accuracy(estimator: Estimator, pairs: list[FusionSample], rounds: int) -> list[tuple[float, bool]]:
    """Print how often kinds are named exactly, and how far parameters are missed; confidences beside being right."""
    right: dict[str, list[bool]] = defaultdict(list)
    missed: dict[str, list[float]] = defaultdict(list)
    mistaken: Counter[tuple[str, str]] = Counter()
    sure = []
    for group, specifications in {"clean": ["identity"], "single": SINGLE, "composed": COMPOSED}.items():
        for image, effects in degraded_images(pairs, specifications, rounds):
            (found,) = estimator.estimate(image)
            true = seen_kinds(effects)
            hit = set(true) == set(found.kinds)
            right[group].append(hit)
            if group == "single":
                right[" ".join(true)].append(hit)
            sure.append((found.confidence, hit))
            if not hit:
                mistaken["+".join(true) or "nothing", "+".join(found.kinds) or "nothing"] += 1
            for name in true.keys() & found.kinds.keys():
                missed[f"{name}, {group}"].append(distance(name, found.kinds[name], true[name]))
    print("\n| images | named exactly | of |\n| --- | ---: | ---: |")
    for group, hits in right.items():
        print(f"| {group or 'nothing'} | {100 * np.mean(hits):.0f} % | {len(hits)} |")
    print("\n| what it was | what was found | times |\n| --- | --- | ---: |")
    for (was, said), times in mistaken.most_common(_MISTAKES):
        print(f"| {was} | {said} | {times} |")
    print("\n| parameter | mean error | of |\n| --- | ---: | ---: |")
    for name, errors in missed.items():
        kind = KINDS[name.partition(",")[0]]
        unit = "levels of severity" if kind.by_level else kind.parameter
        print(f"| {name} | {np.mean(errors):.2f} {unit} | {len(errors)} |")
    return sure


def degraded_images(
    pairs: list[FusionSample], specifications: list[str], rounds: int
) -> Iterator[tuple[torch.Tensor, list]]:
    """Every source under one of the specifications after the other, every pair and specification at least once a round.

    Untouched they are the same in every round, and come once.
    """
    length = max(len(specifications), len(pairs))
    for number in range(length * (rounds if len(specifications) > 1 else 1)):
        pair = pairs[(number + number // length) % len(pairs)]  # with another specification in every round
        batch = degraded_pair(pair, specifications[number % length % len(specifications)], number)
        (effects,) = batch["degradation"]
        yield batch["source_a"], effects["a"]
        yield batch["source_b"], effects["b"]


def draw_calibration(sure: list[tuple[float, bool]], path: Path) -> None:
    """How often the estimate was right, against the confidence in it."""
    known = [(confidence, hit) for confidence, hit in sure if not math.isnan(confidence)]
    if not known:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    confidences, hits = (np.array(values, float) for values in zip(*known, strict=True))
    parts = np.array_split(np.argsort(confidences), 6)
    figure, axis = pyplot.subplots(figsize=(4, 4), layout="constrained")
    axis.plot([0, 1], [0, 1], "--", color="grey")
    axis.plot([confidences[part].mean() for part in parts], [hits[part].mean() for part in parts], "o-")
    axis.set(xlabel="confidence", ylabel="kinds named exactly", title="sixths of the images, by confidence")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


@torch.inference_mode()
def cost(checkpoint: str, estimator: Estimator, pairs: list[FusionSample]) -> None:
    """Print what a method makes of pairs when it is told the truth, what was estimated, and nothing."""
    method = build_method(checkpoint)
    print("\n| degradation | told | PSNR of the sources, dB | VIF |\n| --- | --- | ---: | ---: |")
    for specification in ("noise(sigma=14)", "blur(sigma=2)", "blur(sigma=2)+noise(sigma=8)"):
        scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, pair in enumerate(pairs):
            batch = degraded_pair(pair, specification, number)
            nothing = [SampleDegradation(scenario="delivered", a=[], b=[])]
            for told, given in {
                "the truth": batch,
                "what was estimated": estimator.estimated(batch),
                "nothing": FusionBatch(**{**batch, "degradation": nothing}),  # type: ignore[typeddict-item]
            }.items():
                scores[told].append(quality(method(given), batch))
        for told, values in scores.items():
            decibels, share = np.mean(values, axis=0)
            print(f"| `{specification}` | {told} | {decibels:.2f} | {share:.3f} |", flush=True)


def quality(output: dict, batch: Degraded) -> tuple[float, float]:
    """Mean PSNR of both restored sources, and VIF of the fusion against the clean ones."""
    clean = batch["clean_a"], batch["clean_b"]
    restored = [float(psnr_to(output[f"restored_{side}"], target)) for side, target in zip("ab", clean, strict=True)]
    fused, a, b = (rgb_to_luma(image).double() for image in (output["fused"], *clean))
    return float(np.mean(restored)), float(vif(fused, a, b))


if __name__ == "__main__":
    main()
