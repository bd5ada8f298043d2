"""Times the fusion metrics on a 480x640 grey pair against the plain formulas, and measures their memory.

    python benchmarks/metrics.py [--threads 2] [--repeats 5]

Everything is a ratio inside this one run: the plain NumPy/SciPy formulas of tests/reference, our float32 metrics one
pair at a time, in batches of eight, and a family together on shared grey levels. Memory is the largest sum of live
tensors beyond the inputs, as the torch profiler counts them, in bytes per pixel and batch item.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from fusion_lightning.metrics import CLED, METRICS, FusionMetric, to_grey_levels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.reference import cled_metrics

HEIGHT, WIDTH, BATCH = 480, 640, 8


def pairs(count: int) -> list[torch.Tensor]:
    """Fused, a and b (count, 1, 480, 640): 8-bit scenes with edges, texture and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    images = []
    for _ in range(count):
        a = 90 + 60 * np.sin(x / rng.uniform(20, 40)) * np.cos(y / 25) + 70 * ((x // 40 + y // 60) % 5 == 0)
        b = 120 + 50 * np.sin(y / rng.uniform(5, 9)) + 60 * (np.hypot(x - 300, y - 200) < 120)
        a, b = (image + rng.normal(0, 4, image.shape) for image in (a, b))
        images.append([np.clip(np.round(image), 0, 255) for image in (0.6 * a + 0.4 * b, a, b)])
    return [torch.from_numpy(np.stack(group)[:, None] / 255).float() for group in zip(*images, strict=True)]


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Best of some runs, after one that does not count."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(function: Callable[[], object]) -> int:
    """The largest sum of live tensors that `function` allocates."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    live = peak = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def main() -> None:
    """Print one line per metric and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    batch = pairs(BATCH)
    one = [images[:1] for images in batch]
    levels = [np.round(images[0, 0].double().numpy() * 255) for images in one]
    pixels = HEIGHT * WIDTH
    print(f"{HEIGHT}x{WIDTH} grey, float32, {options.threads} threads, best of {options.repeats}; ms per pair")
    print(f"{'metric':10} {'plain':>8} {'ours':>8} {'ratio':>7} {'in 8':>8} {'B/px, 1':>9} {'B/px, 8':>9}")
    totals: dict[str, list[float]] = {"the five": [0, 0, 0], "all": [0, 0, 0]}
    for name, metric in METRICS.items():
        score = metric().per_image
        ours = seconds(lambda score=score: score(*one), options.repeats) * 1e3
        batched = seconds(lambda score=score: score(*batch), max(options.repeats // 2, 1)) / BATCH * 1e3
        memory = [peak_bytes(lambda score=score, images=images: score(*images)) for images in (one, batch)]
        plain = None
        if name in cled_metrics.METRICS:
            plain = seconds(lambda name=name: cled_metrics.METRICS[name](*levels), 1) * 1e3
        ratio = f"{plain / ours:6.1f}x" if plain else ""
        print(
            f"{name:10} {plain or '':8.5} {ours:8.1f} {ratio:>7} {batched:8.1f} "
            f"{memory[0] / pixels:9.1f} {memory[1] / pixels / BATCH:9.1f}",
            flush=True,
        )
        for group in ("the five", "all") if metric in CLED else ("all",):
            for i, value in enumerate((plain or 0, ours, batched)):
                totals[group][i] += value
    for group, metrics in {"the five": CLED, "all": tuple(METRICS.values())}.items():
        plain, ours, batched = totals[group]
        scores = [metric() for metric in metrics]

        def together(scores: list[FusionMetric] = scores) -> None:
            levels = to_grey_levels(*one)
            for score in scores:
                score.score_grey(levels)

        shared = seconds(together, options.repeats) * 1e3
        ratio = f"; {plain / shared:.1f} times faster than plain ({plain:.0f} ms)" if group == "the five" else ""
        alone = f"{ours:.1f} one by one, {batched:.1f} in batches of {BATCH}"
        print(f"{group}: {shared:.1f} ms per pair together, {alone}{ratio}")


if __name__ == "__main__":
    main()
