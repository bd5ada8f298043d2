"""Score a checkpoint scenario by scenario, beside the average and the maximum of the degraded sources.

    python benchmarks/quality.py --checkpoint CKPT --data roadscene.yaml --root DIR

Prints two markdown tables: PSNR of the restored sources against the clean ones beside that of the delivered sources,
and the fusion metrics against the clean sources.
"""

import argparse
from collections import defaultdict

import torch
from rich.progress import track

from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.methods import Average, FusionMethod, Maximum, load_method

METRICS = ("MI", "VIF", "Qabf", "Nabf", "SSIM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", default="synthetic.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--scenarios", default="low_light,over_exposure,haze,rain,blur,noise,stripes")
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    fragment = read_data(arguments.data, arguments.root)
    methods = {"ours": load_method(arguments.checkpoint).eval(), "average": Average(), "maximum": Maximum()}
    for method in methods.values():
        method.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
        method.setup("test")
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scenario in arguments.scenarios.split(","):
        data = FusionData(**{**fragment, "scenarios": [scenario], "batch_size": 1, "num_workers": 0})
        data.setup("test")
        for batch in track(data.test_dataloader(), description=scenario):
            for name, method in methods.items():
                for key, value in score(method, batch, arguments.bf16 and name == "ours").items():
                    scores[scenario][f"{name} {key}"].append(value)
    print_restoration(scores)
    print_fusion(scores, list(methods))


@torch.inference_mode()
def score(method: FusionMethod, batch: dict, bf16: bool) -> dict[str, float]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        return method.test_step(batch, 0)["rows"][0]["scores"]


def print_restoration(scores: dict[str, dict[str, list[float]]]) -> None:
    print("\n| scenario | a delivered | a restored | gain | b delivered | b restored | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for scenario, columns in scores.items():
        cells = []
        for side in "ab":
            before, after = (mean(columns[f"ours PSNR_{side}{end}"]) for end in ("_in", ""))
            cells += [f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}"]
        print(f"| {scenario} | {' | '.join(cells)} |")


def print_fusion(scores: dict[str, dict[str, list[float]]], methods: list[str]) -> None:
    print(f"\n| scenario | method | {' | '.join(METRICS)} |")
    print(f"| --- | --- |{' --- |' * len(METRICS)}")
    everything: dict[str, list[float]] = defaultdict(list)
    for columns in scores.values():
        for key, values in columns.items():
            everything[key] += values
    for scenario, columns in [*scores.items(), ("all", everything)]:
        for method in methods:
            cells = (f"{mean(columns[f'{method} {metric}']):.3f}" for metric in METRICS)
            print(f"| {scenario} | {method} | {' | '.join(cells)} |")


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    main()
