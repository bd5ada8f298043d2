"""Samplers of training and evaluation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch.utils.data.distributed import DistributedSampler

from fusion_lightning.errors import UserError
from fusion_lightning.text import counted


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
