"""What keeping freed memory gains: `fuse` or a training step in processes of their own, with and without it, in turn.

python benchmarks/allocator.py [--method CLEDStage2] [--size tiny] [--image 480 640] [--bf16] [--training] [--threads 2]

Printed are the processor time of a call, which other programs disturb least, its ratio, and the peak memory of the
process. Networks have random weights.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from fusion_lightning.allocator import KEEP_MEMORY, keep_freed_memory

keep_freed_memory()  # before anything large is allocated

import torch  # noqa: E402

from fusion_lightning import methods  # noqa: E402
from fusion_lightning.batch import FusionBatch  # noqa: E402
from fusion_lightning.commands.fuse.work import fuse_batch  # noqa: E402


def main() -> None:
    """Print a line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="CLEDStage2")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--image", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        run = training_step(options) if options.training else fusion(options)
        run()
        print(min(processor_time(run) for _ in range(2)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    found: dict[str, list[list[float]]] = {"given back": [], "kept": []}
    for _ in range(options.rounds):
        for setting, flag in zip(found, "01", strict=True):
            command = [sys.executable, __file__, "--one", *sys.argv[1:]]
            # a thread that waits for the other one must not count as busy
            environment = {**os.environ, KEEP_MEMORY: flag, "OMP_WAIT_POLICY": "passive"}
            shown = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[setting].append([float(number) for number in shown.split()[-2:]])
    reference = min(seconds for seconds, _ in found["given back"])
    for setting, runs in found.items():
        seconds, peak = min(run[0] for run in runs), max(run[1] for run in runs)
        print(f"{setting:12} {seconds:7.2f} s of processor  {reference / seconds:5.2f}x  peak {peak:6.0f} MB")


def processor_time(run: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def build(options: argparse.Namespace) -> methods.FusionMethod:
    """The method with random weights."""
    torch.manual_seed(0)
    arguments = {"size": options.size}
    if options.method == "CLEDStage2":
        arguments["restorer"] = {"size": options.size}
    method: methods.FusionMethod = getattr(methods, options.method)(**arguments)
    return method.to(memory_format=torch.channels_last)


def pairs(options: argparse.Namespace) -> FusionBatch:
    """A batch of noise."""
    count, (height, width) = options.batch, options.image
    a, b = torch.rand(count, 1, height, width), torch.rand(count, 3, height, width)
    degradation = [{"scenario": "delivered", "a": [], "b": []}] * count
    names = [str(index) for index in range(count)]
    return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=degradation, name=names)


def fusion(options: argparse.Namespace) -> Callable[[], object]:
    """What `fuse` does between reading and writing."""
    method, batch = build(options).eval(), pairs(options)
    return lambda: fuse_batch(method, batch, bf16=options.bf16)


def training_step(options: argparse.Namespace) -> Callable[[], object]:
    """A step of Adam."""
    method, batch = build(options).train(), pairs(options)
    parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = method.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
