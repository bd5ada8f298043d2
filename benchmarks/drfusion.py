"""Time DRFusion, count what its training keeps in memory, and see what the fast path costs in quality.

    python benchmarks/drfusion.py [--size small] [--images 256x256 480x640] [--steps 3] [--device cpu]
    python benchmarks/drfusion.py --checkpoint CKPT [--data roadscene.yaml --root DIR] [--scenario drfusion_noise]

The first form times inference and a training step as ratios to float32 in the contiguous layout with both decoders run
at every step. Every repetition runs all variants in turn, so that a busy machine slows them alike; medians count.
Then it measures the peak memory of a training step at 256×256, batch 1, with and without recomputing steps, each in a
process of its own. The second form runs trained weights both ways over the test pairs.
"""

import argparse
import math
import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.batch import AppliedDegradation, FusionBatch, SampleDegradation
from fusion_lightning.configuration import read_data
from fusion_lightning.datamodules import FusionData
from fusion_lightning.methods import DRFusion, load_method
from fusion_lightning.metrics import CLED, DRFUSION, fusion_metrics
from fusion_lightning.metrics.functional import psnr_to
from fusion_lightning.text import counted


class Variant(NamedTuple):
    """A way to run the method."""

    name: str
    layout: torch.memory_format = torch.channels_last
    bf16: bool = False
    skip: bool = True
    """Whether the weight decoder rests where its result is not needed."""


PLAIN = Variant("float32 contiguous, both decoders", torch.contiguous_format, skip=False)
FAST = Variant("bfloat16 channels-last, skipping", bf16=True)
VARIANTS = (PLAIN, Variant("float32 channels-last", skip=False), Variant("float32 channels-last, skipping"), FAST)


class BothDecoders(nn.Module):
    """A network whose weight decoder runs at every step, wanted or not."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, time: Tensor, weights: bool = True) -> tuple[Tensor, Tensor | None]:
        """Predict noise and weights, and drop the weights where they are not wanted."""
        noise, weight = self.network(state, time, True)
        return noise, weight if weights else None


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--images", nargs="+", default=["256x256", "480x640"], help="heights and widths to fuse")
    parser.add_argument("--steps", type=int, nargs="+", default=[3], help="T")
    parser.add_argument("--side", type=int, default=128, help="height and width to train on")
    parser.add_argument("--batch", type=int, default=1, help="pairs per training step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--checkpoint", help="judge the fast path on these trained weights")
    parser.add_argument("--data", default="synthetic.yaml", help="a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--scenario", default="drfusion_noise")
    parser.add_argument("--pairs", type=int, default=8, help="how many test pairs to judge on")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.checkpoint:
        print_quality(options)
        return
    for steps in options.steps:
        for image in options.images:
            height, width = map(int, image.split("x"))
            batch = make_batch(1, height, width, options.device)
            print(f"\ninference, {options.size}, T = {steps}, {height} x {width}")
            print_times({one: inference(options, steps, one, batch) for one in VARIANTS}, options)
        batch = make_batch(options.batch, options.side, options.side, options.device)
        print(f"\ntraining step, {options.size}, T = {steps}, {options.batch} x {options.side} x {options.side}")
        print_times({one: training(options, steps, one, batch) for one in (PLAIN, FAST)}, options)
    print_memory(options)


def make_batch(count: int, height: int, width: int, device: str) -> FusionBatch:
    """Random pairs under noise."""
    noise: list[AppliedDegradation] = [{"name": "noise", "params": {"sigma": 14.0}}]
    a, b = (torch.rand(count, channels, height, width, device=device) for channels in (1, 3))
    degradation = [SampleDegradation(scenario="noise", a=noise, b=noise)] * count
    names = [str(index) for index in range(count)]
    return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=degradation, name=names)


def build(method: DRFusion, variant: Variant, device: str) -> DRFusion:
    """Bring a method into a variant."""
    method.to(device)
    method.network.to(memory_format=variant.layout)  # type: ignore[call-overload]
    if not variant.skip:
        method.network = BothDecoders(method.network)  # type: ignore[assignment]
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


def inference(options: argparse.Namespace, steps: int, variant: Variant, batch: FusionBatch) -> Callable[[], object]:
    """A function that fuses the batch."""
    torch.manual_seed(0)
    method = build(DRFusion(options.size, steps), variant, options.device).eval()

    @torch.no_grad()
    def run() -> object:
        with torch.autocast(options.device, torch.bfloat16, enabled=variant.bf16):
            return method.fuse(batch)

    return run


def training(options: argparse.Namespace, steps: int, variant: Variant, batch: FusionBatch) -> Callable[[], object]:
    """A function that takes one training step."""
    torch.manual_seed(0)
    method = build(DRFusion(options.size, steps), variant, options.device).train()
    optimizer = torch.optim.Adam(method.parameters(), fused=variant.bf16)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast(options.device, torch.bfloat16, enabled=variant.bf16):
            loss = method.training_step(batch, 0)
        loss.backward()
        optimizer.step()

    return run


def print_times(runs: dict[Variant, Callable[[], object]], options: argparse.Namespace) -> None:
    """Run all variants in turn, after a warm-up each, and print their median times."""
    seconds: dict[Variant, list[float]] = {variant: [] for variant in runs}
    for repetition in range(options.repetitions + 1):
        for variant, run in runs.items():
            start = time.perf_counter()
            run()
            if options.device != "cpu":
                torch.cuda.synchronize()
            if repetition:
                seconds[variant].append(time.perf_counter() - start)
    for variant, values in seconds.items():
        median = statistics.median(values)
        ratio = statistics.median(seconds[PLAIN]) / median
        print(f"  {variant.name:36} {1e3 * median:9.1f} ms {ratio:6.2f} x")


def print_memory(options: argparse.Namespace) -> None:
    """Peak memory of a training step in float32, with and without recomputing steps."""
    print(f"\npeak memory of training, {options.size}, T = {options.steps[-1]}, 1 x 256 x 256, float32")
    # a process's peak never falls again: one process each
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for recompute in (False, True):
            before, peak = pool.apply(peak_memory, (options.size, options.steps[-1], recompute, options.device))
            name = "recomputing steps" if recompute else "keeping all features"
            print(f"  {name:36} {peak:9.0f} MB, of which {peak - before:.0f} MB while training")


def peak_memory(size: str, steps: int, recompute: bool, device: str) -> tuple[float, float]:
    """Megabytes before and at the peak of two training steps, which have the optimizer's moments too."""
    method = build(DRFusion(size, steps, recompute=recompute), FAST._replace(bf16=False), device).train()  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(method.parameters())
    batch = make_batch(1, 256, 256, device)
    before = _peak(device)
    for _ in range(2):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    return before, _peak(device)


def _peak(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    # not getrusage: what it reports outlives an exec, so that a child starts with its parent's peak
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**10


def print_quality(options: argparse.Namespace) -> None:
    """What the fast path loses against float32 on trained weights."""
    fragment = read_data(options.data, options.root)
    data = FusionData(**{**fragment, "scenarios": [options.scenario], "batch_size": 1, "num_workers": 0})
    data.setup("test")
    methods = {one: build(load(options.checkpoint), one, "cpu").eval() for one in (PLAIN, FAST)}
    metrics = fusion_metrics([one.__name__ for one in (*CLED, *DRFUSION)], prefix="")
    scores: dict[Variant, dict[str, list[float]]] = {one: defaultdict(list) for one in methods}
    agreement = []
    for _, batch in zip(range(options.pairs), data.test_dataloader(), strict=False):
        outputs = {one: fuse(method, batch, one) for one, method in methods.items()}
        agreement.append(float(psnr_to(outputs[FAST]["fused"], outputs[PLAIN]["fused"])))
        for one, output in outputs.items():
            for side in ("a", "b"):
                scores[one][f"PSNR {side}"].append(float(psnr_to(output[f"restored_{side}"], batch[f"clean_{side}"])))
            for name, metric in metrics.items():
                scores[one][name].append(float(metric.per_image(output["fused"], batch["clean_a"], batch["clean_b"])))
    pairs = counted(len(agreement), "pair")
    print(f"\n{pairs} under {options.scenario}; the two fusions agree to {mean(agreement):.1f} dB")
    print(f"  {'':12} {'float32':>10} {'fast path':>10} {'difference':>11}")
    for name, values in scores[PLAIN].items():
        plain, fast = mean(values), mean(scores[FAST][name])
        print(f"  {name:12} {plain:10.4f} {fast:10.4f} {fast - plain:+11.5f}")


def load(checkpoint: str) -> DRFusion:
    """A trained DRFusion."""
    method = load_method(checkpoint, DRFusion)
    assert isinstance(method, DRFusion)
    return method


@torch.no_grad()
def fuse(method: DRFusion, batch: FusionBatch, variant: Variant) -> dict[str, Tensor]:
    """Fuse as a variant does."""
    with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
        return dict(method.fuse(batch))  # type: ignore[arg-type]


def mean(values: Iterable[float]) -> float:
    """Mean of the finite values."""
    return statistics.mean([value for value in values if math.isfinite(value)])


if __name__ == "__main__":
    main()
