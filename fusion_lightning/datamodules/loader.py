"""A loader that resumes in the middle of an epoch, and the processes that read ahead for it."""

import atexit
import ctypes
import multiprocessing.queues
import os
import signal
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
from torch.utils.data import DataLoader

from fusion_lightning.batch import FusionBatch, FusionSample, collate
from fusion_lightning.datamodules.sampler import TrainSampler
from fusion_lightning.errors import UserError

_CANNOT_HAND_OVER = 74
"""How a worker process ends when a batch does not fit the shared memory."""
WORKER_PATIENCE = 600
"""Seconds that a batch may take."""
_PR_SET_PDEATHSIG = 1
"""Linux: the signal that a process gets when the one that started it has ended."""


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
        if self.num_workers > 0:
            _reading.add(self)
            _workers.update(getattr(self._iterator, "_workers", ()))
            atexit.unregister(_end_workers)
            atexit.register(_end_workers)  # before what torch and multiprocessing registered, which wait for them
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


_reading: weakref.WeakSet[ResumableLoader] = weakref.WeakSet()
"""The loaders that have processes which read ahead."""
_workers: weakref.WeakSet[BaseProcess] = weakref.WeakSet()
"""Those processes, also of loaders that are gone: one that missed that it is no longer needed goes on waiting."""


def _end_workers() -> None:
    """End the processes that still read ahead when Python ends: they ignore the signal with which it asks them to."""
    for loader in _reading:
        iterator: Any = loader._iterator
        if iterator is not None:
            iterator._shutdown_workers()
    for worker in _workers:
        worker.kill()


def why_workers_ended(report: str, codes: Sequence[int | None] = ()) -> str:
    """What a DataLoader's report on its worker processes and their exit codes mean, and what to do."""
    if "timed out" in report:
        return (
            f"no batch has come for {WORKER_PATIENCE} seconds: the processes that read ahead wait for a file system or "
            "for memory; look at the disk, or set --data.num_workers=0 to see where they stop"
        )
    told = any(words in report for words in (f"exit code {_CANNOT_HAND_OVER}", "Bus error", "shared memory"))
    if told or not {_CANNOT_HAND_OVER, -getattr(signal, "SIGBUS", 0)}.isdisjoint(codes):
        return (
            "the processes that read ahead cannot hand over a batch: the shared memory (/dev/shm) is full or too "
            "small; enlarge it (docker run --shm-size=1g), lower --data.num_workers, or set --data.num_workers=0"
        )
    return (
        f"a process that reads ahead has ended ({' '.join(report.split())}): most often there is not enough memory; "
        "lower --data.num_workers, or set --data.num_workers=0"
    )


def collate_samples(samples: Sequence[FusionSample]) -> FusionBatch:
    """Stack samples, or say why they do not stack."""
    for key in ("source_a", "source_b", "clean_a", "clean_b"):
        by_size = {sample[key].shape: sample for sample in samples}
        if len(by_size) > 1:
            first, second = list(by_size.values())[:2]
            raise UserError(
                f"`{key}` of `{first['name']}` ({first['degradation']['scenario']}) and of `{second['name']}` "
                f"({second['degradation']['scenario']}) differ in size, {tuple(first[key].shape)} and "
                f"{tuple(second[key].shape)}, so that they do not fit in one batch: set `crop_size`, take "
                "`up=true` with `downsample`, or set `batch_size: 1`"
            )
    return collate(samples)


def start_worker(worker: int) -> None:
    """Prepare a process that reads ahead."""
    cv2.setNumThreads(0)  # the workers are the parallelism: threads inside each would only fight for the processors
    # what asks a run to stop often asks all its processes at once: the workers are needed until the step is finished,
    # and end with the process that started them
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    # without a handler for it, a batch that cannot be handed over is dropped, and is waited for without end
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_cannot_hand_over)  # type: ignore[attr-defined]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _cannot_hand_over(error: Exception, batch: object) -> None:
    os._exit(_CANNOT_HAND_OVER)


def processors() -> int:
    """Processors this process may use, at most 8; only Linux tells how many it was given."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
