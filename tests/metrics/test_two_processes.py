"""Two real processes with uneven batches give what one process gives."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from fusion_lightning.metrics import METRICS, RestorationPSNR, RestorationSSIM, fusion_metrics

from .conftest import scene

SHARES = ([[0, 1], [2]], [[3, 4]])
"""Batches of sample numbers that each process gets: three samples and two."""


TINT = torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
"""Makes a source one in colour, for the scores that need one."""


def batch(numbers: list[int], size: int = 48) -> list[Tensor]:
    samples = [scene(size, seed, torch.float32) for seed in numbers]
    return [torch.cat(images) for images in zip(*samples, strict=True)]


def scores(batches: list[list[int]]) -> dict[str, float]:
    fits = {name: metric.definition.smallest <= 48 for name, metric in METRICS.items()}
    small = fusion_metrics([name for name in fits if fits[name]], prefix="")
    large = fusion_metrics([name for name in fits if not fits[name]], prefix="")
    restoration = {"psnr_to": RestorationPSNR(), "ssim_to": RestorationSSIM()}
    for numbers in batches:
        fused, a, b = batch(numbers)
        small.update(fused * TINT, a, b * TINT)
        large.update(*batch(numbers, 176))
        for metric in restoration.values():
            metric.update(fused, a)
    values = small.compute() | large.compute() | {name: metric.compute() for name, metric in restoration.items()}
    return {name: value.item() for name, value in values.items()}


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        torch.save(scores(SHARES[rank]), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.timeout(240)
def test_two_processes_equal_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(process, args=(port, str(tmp_path)), nprocs=2)
    expected = scores([*SHARES[0], *SHARES[1]])
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt")
        assert got == pytest.approx(expected, rel=1e-6)
    assert set(expected) == {*METRICS, "psnr_to", "ssim_to"}
