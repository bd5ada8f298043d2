"""Measures scores and costs of a method, image by image."""

import ctypes
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from fusion_lightning.batch import FusionBatch, FusionOutput, require_finite, to_device
from fusion_lightning.commands.benchmark.store import Cost, ImageResult
from fusion_lightning.datamodules.pairing import find_images
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.imaging.io import read_image
from fusion_lightning.methods import FusionMethod
from fusion_lightning.metrics import FusionMetric
from fusion_lightning.scoring import score_images

OnImage = Callable[[int, FusionBatch, FusionOutput], None]
"""Called with the index of an image, its batch of one, and what a method made of it."""


class Fuser(Protocol):
    """Anything that fuses a batch: a method, or published images."""

    def fuse(self, batch: FusionBatch) -> FusionOutput:
        """The fusion of a batch."""


class PublishedImages:
    """Fused images published by others, found by the names of the pairs.

    Args:
        folder: Where they are.

    Raises:
        UserError: If there is no such folder, or no image in it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.files = find_images(folder, "`folder`")

    def fuse(self, batch: FusionBatch) -> FusionOutput:
        """The published image of a batch of one.

        Raises:
            UserError: If there is none, or its size is not that of the clean pair.
        """
        (name,) = batch["name"]
        if name not in self.files:
            raise UserError(f"{self.folder} has no image called {name}")
        image = to_tensor(read_image(self.files[name]))[None]
        height, width = (max(batch["clean_a"].shape[dim], batch["clean_b"].shape[dim]) for dim in (-2, -1))
        if image.shape[-2:] != (height, width):
            shape = f"{image.shape[-1]}x{image.shape[-2]}"
            raise UserError(f"{self.files[name]} is {shape}, but the pair is {width}x{height}")
        return FusionOutput(fused=image.to(batch["clean_a"].device))


@torch.no_grad()
def measure(
    fuser: Fuser,
    batches: Iterable[FusionBatch],
    metrics: Mapping[str, FusionMetric],
    device: torch.device,
    bf16: bool,
    on_image: OnImage,
) -> tuple[list[ImageResult], Cost | None]:
    """Fuse and score batches of one pair.

    The first image is fused once more before, to count operations and memory; so its time holds no first-call work.

    Args:
        fuser: A method on the device, or published images.
        batches: The pairs.
        metrics: Fusion metrics by name.
        device: Where to compute.
        bf16: Whether networks run in bfloat16; scores never do.
        on_image: Called with every image.

    Returns:
        A result for every image, and what a method costs.
    """
    results: list[ImageResult] = []
    cost: Cost | None = None
    for index, delivered in enumerate(batches):
        batch = to_device(delivered, device)
        if not isinstance(fuser, FusionMethod):
            output, seconds = fuser.fuse(batch), float("nan")
        else:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                cost = cost or _cost(fuser, batch, device)
                output, seconds = _timed(fuser, batch, device)
        require_finite(output, batch["name"])
        (row,) = score_images(batch, output, metrics)
        results.append(ImageResult(name=row["name"], seconds=seconds, scores=row["scores"]))
        on_image(index, batch, output)
    return results, cost


def _cost(method: FusionMethod, batch: FusionBatch, device: torch.device) -> Cost:
    before = _start_watching_memory(device)
    with FlopCounterMode(display=False) as counter:
        output = method(batch)
    return Cost(
        parameters=sum(parameter.numel() for parameter in method.parameters()),
        flops=counter.get_total_flops(),
        size=list(next(iter(output.values())).shape[-2:]),
        memory=_peak_memory(device) - before,
    )


def _timed(method: FusionMethod, batch: FusionBatch, device: torch.device) -> tuple[FusionOutput, float]:
    """The fusion, and how many seconds it took."""
    start = time.perf_counter()
    output = method(batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return output, time.perf_counter() - start


def _start_watching_memory(device: torch.device) -> float:
    """Forget the peak so far, and return what is in use."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    try:
        # what was freed but kept by the allocator would be used again unseen
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError):  # not Linux with glibc, or not allowed
        return float("nan")
    return _status("VmRSS:")


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM:")


def _status(entry: str) -> float:
    """An entry of the kernel's record of this process, in bytes; NaN where there is none."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(entry)), float("nan"))
