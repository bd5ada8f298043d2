"""Reads every pair once, to find broken files before training, or to cache all in memory."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import track

from fusion_lightning.errors import UserError

Content = TypeVar("Content", covariant=True)


class Source(Protocol[Content]):
    """Things by number that are read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Content: ...


def check_pairs(pairs: Source[object], title: str = "Checking images") -> None:
    """Read every pair, with a progress bar.

    Raises:
        UserError: If pairs cannot be used; the message counts them and describes the first.
    """
    _read_all(pairs, title, keep=False)


def cache_pairs(pairs: Source[Content], title: str = "Reading images") -> Sequence[Content]:
    """Read every pair into memory, with a progress bar; four bytes per pixel and pair of a grey and a colour image.

    Worker processes that are forked share this memory.

    Raises:
        UserError: If pairs cannot be used; the message counts them and describes the first.
    """
    return _read_all(pairs, title, keep=True)


def _read_all(pairs: Source[Content], title: str, keep: bool) -> list[Content]:
    problems: list[str] = []

    def read(index: int) -> Content | None:
        try:
            return pairs[index]
        except UserError as error:
            problems.append(str(error))
            return None

    kept: list[Content] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        numbers = range(len(pairs))
        for pair in track(pool.map(read, numbers), title, len(numbers), console=Console(stderr=True), transient=True):
            if keep and pair is not None:
                kept.append(pair)
    if problems:
        count = f"{len(problems)} of {len(pairs)} pairs cannot be used, one because: " if len(problems) > 1 else ""
        raise UserError(count + min(problems))
    return kept
