"""Time CLED-Fusion's two networks, forward and in training, as ratios to float32 in the contiguous layout.

    python benchmarks/cled.py [--network unet fusion] [--size tiny] [--side 128] [--batch 1] [--threads 2]

Every repetition runs all variants in turn, so that a busy machine slows them alike; the medians are compared.
Times are of this machine; only the ratios of one run mean something elsewhere.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion_lightning.networks.degrade_fusion import SHAPES, DegradeFusion
from fusion_lightning.networks.residual_unet import WIDTHS, ResidualUNet


class Variant(NamedTuple):
    """A way to run a network."""

    name: str
    layout: torch.memory_format
    dtype: torch.dtype


VARIANTS = (
    Variant("float32 contiguous", torch.contiguous_format, torch.float32),
    Variant("float32 channels-last", torch.channels_last, torch.float32),
    Variant("bfloat16 channels-last", torch.channels_last, torch.bfloat16),
)


def main() -> None:
    """Print one table per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", choices=("unet", "fusion"), default=("unet", "fusion"))
    parser.add_argument("--size", choices=sorted({*WIDTHS, *SHAPES}), default="tiny")
    parser.add_argument("--side", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for network in options.network:
        print(
            f"\n{network} {options.size}, {options.batch} x {options.side} x {options.side}, {options.threads} threads"
        )
        runs = {variant: build(network, options, variant) for variant in VARIANTS}
        for task in runs[VARIANTS[0]]:
            seconds = measure({variant: run[task] for variant, run in runs.items()}, options.repetitions)
            reference = seconds[VARIANTS[0]]
            for variant in VARIANTS:
                ratio = reference / seconds[variant]
                print(f"  {task:14} {variant.name:24} {1e3 * seconds[variant]:9.1f} ms {ratio:6.2f} x")


def build(network: str, options: argparse.Namespace, variant: Variant) -> dict[str, Callable[[], object]]:
    """Return the forward pass and the training step of one variant, as functions."""
    torch.manual_seed(0)
    a, b = torch.rand(2, options.batch, 3, options.side, options.side)
    module: nn.Module
    arguments: tuple[Tensor, ...]
    if network == "unet":
        module, arguments = ResidualUNet(options.size), (a, b, torch.full((options.batch,), 500.0))
    else:
        module, arguments = DegradeFusion(options.size), (a, torch.zeros_like(a), b, torch.zeros_like(b))
    module.to(memory_format=variant.layout)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(module.parameters(), fused=True)

    def predict() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.dtype == torch.bfloat16):
            return module(*arguments)

    @torch.no_grad()
    def forward() -> Tensor:
        return predict()

    def training_step() -> None:
        optimizer.zero_grad()
        (predict().float() - a).abs().mean().backward()
        optimizer.step()

    tasks: dict[str, Callable[[], object]] = {"forward": forward, "training step": training_step}
    if isinstance(module, ResidualUNet):
        tasks["three steps"] = partial(three_steps, module, forward)
    return tasks


def three_steps(module: ResidualUNet, forward: Callable[[], object]) -> None:
    """Sampling's three forward passes, which standardise the filters once."""
    with module.fixed_weights():
        for _ in range(3):
            forward()


def measure(runs: dict[Variant, Callable[[], object]], repetitions: int) -> dict[Variant, float]:
    """Median seconds of every run, all run in turn after one warm-up each."""
    seconds: dict[Variant, list[float]] = {variant: [] for variant in runs}
    for repetition in range(repetitions + 1):
        for variant, run in runs.items():
            start = time.perf_counter()
            run()
            if repetition:
                seconds[variant].append(time.perf_counter() - start)
    return {variant: statistics.median(values) for variant, values in seconds.items()}


if __name__ == "__main__":
    main()
