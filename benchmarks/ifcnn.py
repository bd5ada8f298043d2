"""Time IFCNN, fusing two grey images, as ratios to float32 in the contiguous layout.

    python benchmarks/ifcnn.py [--height 480] [--width 640] [--threads 2]

Every repetition runs all variants in turn, so that a busy machine slows them alike; the fastest are compared.
Times are of this machine; only the ratios of one run mean something elsewhere.
"""

import argparse
import time

import torch

from fusion_lightning.methods import IFCNN

VARIANTS = (
    ("float32 contiguous", torch.contiguous_format, False),
    ("float32 channels-last", torch.channels_last, False),
    ("bfloat16 channels-last", torch.channels_last, True),
)


@torch.inference_mode()
def main() -> None:
    """Print a line per variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    a, b = torch.rand(2, 1, 1, options.height, options.width)
    methods = [IFCNN().eval().to(memory_format=layout) for _, layout, _ in VARIANTS]
    seconds: list[list[float]] = [[] for _ in VARIANTS]
    for repetition in range(options.repetitions + 1):
        for method, (_, _, bf16), times in zip(methods, VARIANTS, seconds, strict=True):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                method.fuse_luma(a, b)
            if repetition:  # the first one warms up
                times.append(time.perf_counter() - start)
    reference = min(seconds[0])
    print(f"IFCNN, {options.height} x {options.width}, {options.threads} threads")
    for (name, _, _), times in zip(VARIANTS, seconds, strict=True):
        print(f"  {name:24} {1e3 * min(times):9.1f} ms {reference / min(times):6.2f} x")


if __name__ == "__main__":
    main()
