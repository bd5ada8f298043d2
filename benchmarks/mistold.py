"""How wrong may one be about a degradation? A method that is told it, told something else.

    python benchmarks/mistold.py --checkpoint CKPT --data roadscene.yaml --root DIR --limit 11 --crop 192

Images are degraded by a known noise or blur; the method is told another strength, another kind of blur or another
border. Prints a markdown table: what it costs in PSNR of the restored sources and in VIF of the fusion, against being
told the truth.
"""

import argparse
from collections import defaultdict

import numpy as np
import torch
from blind import Degraded, clean_pairs, degraded_pair, quality

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.degradations.labels import planned
from fusion_lightning.methods import FusionMethod, build_method

FACTORS = (0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="RestoreThenFuse", help="or a class that needs no training")
    parser.add_argument("--data", default="synthetic.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--limit", type=int, default=11, help="pairs")
    parser.add_argument("--crop", type=int, default=192, help="side of the middle part that is used")
    parser.add_argument("--noise", type=float, default=14.0)
    parser.add_argument("--blur", type=float, default=2.0)
    arguments = parser.parse_args()
    method = build_method(arguments.checkpoint)
    pairs = clean_pairs(arguments.data, arguments.root, arguments.limit, arguments.crop)
    print("| what happened | told | PSNR of the sources, dB | VIF |")
    print("| --- | --- | ---: | ---: |")
    for true, lies in cases(arguments.noise, arguments.blur).items():
        scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, pair in enumerate(pairs):
            batch = degraded_pair(pair, true, number)
            for told in ("the truth", *lies, "nothing"):
                text = {"the truth": true, "nothing": "identity"}.get(told, told)
                scores[told].append(score(method, batch, text))
        truth = np.mean(scores["the truth"], axis=0)
        print(f"| `{true}` | the truth | {truth[0]:.2f} | {truth[1]:.3f} |")
        for told, values in scores.items():
            if told != "the truth":
                loss = np.mean(values, axis=0) - truth
                print(
                    f"| | {told if told == 'nothing' else f'`{told}`'} | {loss[0]:+.2f} | {loss[1]:+.3f} |", flush=True
                )


def cases(noise: float, blur: float) -> dict[str, list[str]]:
    """What happened -> what the method is told."""
    return {
        f"noise(sigma={noise:g})": [f"noise(sigma={noise * factor:g})" for factor in FACTORS],
        f"blur(sigma={blur:g})": [
            *(f"blur(sigma={blur * factor:g})" for factor in FACTORS),
            # of the same second moment: a disk's is r² / 4 along each axis
            f"defocus(radius={2 * blur:g})",
            f"motion_blur(length={12**0.5 * blur:.3g}, angle=0)",
            f"blur(sigma={blur:g}, padding=circular)",
            f"blur(sigma={blur:g}, padding=zero)",
        ],
        f"blur(sigma={blur:g}, padding=zero)": [f"blur(sigma={blur:g})"],
    }


@torch.inference_mode()
def score(method: FusionMethod, batch: Degraded, told: str) -> tuple[float, float]:
    """Mean PSNR of both restored sources, and VIF of the fusion against the clean ones."""
    effects = planned(told)
    lied = FusionBatch(**{**batch, "degradation": [SampleDegradation(scenario="told", a=effects, b=effects)]})  # type: ignore[typeddict-item]
    return quality(method(lied), batch)


if __name__ == "__main__":
    main()
