"""Samplers of training and evaluation, and a loader that resumes in the middle of an epoch."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from fusion_lightning.batch import FusionBatch
from fusion_lightning.errors import UserError
from fusion_lightning.text import counted

CANNOT_HAND_OVER = 74
"""How a worker process ends when a batch does not fit the shared memory."""
WORKER_PATIENCE = 600
"""Seconds that a batch may take."""


@dataclass(frozen=True)
class SampleKey:
    """Key of a training sample: with the seed it determines the sample."""

    epoch: int
    index: int
    scenario: str | None = None
    """The scenario that a quota demands; None lets the sample draw its own."""


class TrainSampler(DistributedSampler[SampleKey]):
    """Sampler of every pair once per epoch, in an order that depends on (seed, epoch) alone.

    Step k of an epoch takes the same pairs of that order for any split of the batch over processes. Pairs that do not
    fill a last batch wait for another epoch; fewer pairs than one batch are repeated to fill it. Being a
    `DistributedSampler` it is left alone by the Trainer, whatever its `use_distributed_sampler`.

    Args:
        length: Number of pairs.
        batch_size: Samples per process and step, or per step if the batch is split.
        seed: Seed of the order.
        quotas: Scenario -> how many of `batch_size` samples get it; the others draw theirs.
        rank: This process.
        world_size: Number of processes.
        split: Split `batch_size` over the processes, so that a step is the same for any number of them.

    Raises:
        UserError: If the quotas ask for more samples than a batch has, or a batch cannot be split evenly.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        quotas: Mapping[str, int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        split: bool = False,
    ) -> None:
        super().__init__(range(length), world_size, rank, seed=seed)  # type: ignore[arg-type]
        if negative := [scenario for scenario, count in (quotas or {}).items() if count < 0]:
            raise UserError(f"`quotas` must be numbers of samples, at least 0, but got less for `{negative[0]}`")
        slots = [scenario for scenario, count in (quotas or {}).items() for _ in range(count)]
        if len(slots) > batch_size:
            raise UserError(
                f"`quotas` ask for {len(slots)} samples per batch ({dict(quotas or {})}), "
                f"but `batch_size` is {batch_size}: lower them or raise it"
            )
        if split and batch_size % world_size:
            raise UserError(
                f"`batch_size: {batch_size}` cannot be split over {world_size} processes: take a multiple of it"
            )
        padded = [*slots, *[None] * (batch_size - len(slots))]
        self.slots: list[str | None] = padded if split else [slot for slot in padded for _ in range(world_size)]
        """What the samples of a step get; they go to the processes in turn."""
        self.batch_size = len(self.slots) // world_size
        """Samples per process and step."""
        self.length = length
        self.start = 0
        """Samples of this process to pass over in the epoch, because they were trained on before a resume."""

    def __len__(self) -> int:
        return max(self.length // len(self.slots), 1) * self.batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.epoch,))).permutation(
            self.length
        )
        mine = np.resize(order, len(self) * self.num_replicas)[self.rank :: self.num_replicas]
        whole = (len(self) - self.start) // self.batch_size * self.batch_size
        for position in range(self.start, self.start + whole):
            place = (position * self.num_replicas + self.rank) % len(self.slots)
            yield SampleKey(self.epoch, int(mine[position]), self.slots[place])


class EvaluationSampler(DistributedSampler[int]):
    """Sampler of every pair exactly once, dealt out to the processes in turn.

    PyTorch's own repeats some pairs until all processes have as many, which counts them twice in every mean.

    Args:
        length: Number of pairs.
        rank: This process.
        world_size: Number of processes.

    Raises:
        UserError: If there are fewer pairs than processes.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(range(length), world_size, rank, shuffle=False)  # type: ignore[arg-type]
        if 0 < length < world_size:
            raise UserError(
                f"{counted(length, 'pair')} cannot be shared by {world_size} processes: lower `trainer.devices`"
            )
        self.mine = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[int]:
        return iter(self.mine)


class ResumableLoader(DataLoader[Any]):
    """A data loader whose state is its place in the epoch, so that a resumed run goes on with the next pair.

    The place counts pairs of all processes: it means the same to another batch size or number of processes.
    """

    _place = 0
    """Pairs of this process that were handed out in the epoch, or come before those that will be."""
    _resume: tuple[int, int] | None = None

    @property
    def batches_done(self) -> int:
        """How many batches of the epoch are behind the loader."""
        return -(-self._place // (self.batch_size or 1))

    def __iter__(self) -> Iterator[FusionBatch]:  # type: ignore[override]
        self._place = 0
        if isinstance(self.sampler, TrainSampler):
            # a checkpoint of a finished epoch must not shorten the next one
            if self._resume is not None and self._resume[0] == self.sampler.epoch:
                self._place = self._resume[1]
            self._resume = None
            self.sampler.start = self._place
        batches = super().__iter__()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:
                # a worker process wraps its error in a traceback: the sentence is what the user needs
                raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
            except RuntimeError as error:
                if not str(error).startswith("DataLoader"):
                    raise
                codes = [worker.exitcode for worker in getattr(self._iterator, "_workers", ())]
                raise UserError(why_workers_ended(str(error), codes)) from error
            self._place += self.batch_size or 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its pairs were handed out."""
        return {"epoch": getattr(self.sampler, "epoch", 0), "pairs": self._place * self._processes}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on behind the pairs of a saved state, if its epoch is the one that runs next."""
        # checkpoints of version 0.1 count batches
        pairs = state["pairs"] if "pairs" in state else state["batches"] * (self.batch_size or 1) * self._processes
        self._place = min(pairs // self._processes, len(self.sampler))  # type: ignore[arg-type]
        self._resume = (state["epoch"], self._place)

    @property
    def _processes(self) -> int:
        return getattr(self.sampler, "num_replicas", 1)


def why_workers_ended(report: str, codes: Sequence[int | None] = ()) -> str:
    """What a DataLoader's report on its worker processes and their exit codes mean, and what to do."""
    if "timed out" in report:
        return (
            f"no batch has come for {WORKER_PATIENCE} seconds: the processes that read ahead wait for a file system or "
            "for memory; look at the disk, or set --data.num_workers=0 to see where they stop"
        )
    told = any(words in report for words in (f"exit code {CANNOT_HAND_OVER}", "Bus error", "shared memory"))
    if told or not {CANNOT_HAND_OVER, -getattr(signal, "SIGBUS", 0)}.isdisjoint(codes):
        return (
            "the processes that read ahead cannot hand over a batch: the shared memory (/dev/shm) is full or too "
            "small; enlarge it (docker run --shm-size=1g), lower --data.num_workers, or set --data.num_workers=0"
        )
    return (
        f"a process that reads ahead has ended ({' '.join(report.split())}): most often there is not enough memory; "
        "lower --data.num_workers, or set --data.num_workers=0"
    )
