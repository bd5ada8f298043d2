"""Reads every pair once, to find broken files before training, or to cache all in memory."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fusion_lightning.datamodules.dataset import PairSource
from fusion_lightning.datamodules.pairs import Pair
from fusion_lightning.errors import UserError


def check_pairs(pairs: PairSource, title: str = "Checking images") -> None:
    """Read every pair, with a progress bar.

    Raises:
        UserError: If pairs cannot be used; the message counts them and describes the first.
    """
    _read_all(pairs, title, keep=False)


def cache_pairs(pairs: PairSource, title: str = "Reading images") -> Sequence[Pair]:
    """Read every pair into memory, with a progress bar; four bytes per pixel and pair of a grey and a colour image.

    Worker processes that are forked share this memory.

    Raises:
        UserError: If pairs cannot be used; the message counts them and describes the first.
    """
    return _read_all(pairs, title, keep=True)


def _read_all(pairs: PairSource, title: str, keep: bool) -> list[Pair]:
    from rich.progress import track

    problems: list[str] = []

    def read(index: int) -> Pair | None:
        try:
            return pairs[index]
        except UserError as error:
            problems.append(str(error))
            return None

    kept: list[Pair] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for pair in track(pool.map(read, range(len(pairs))), title, total=len(pairs)):
            if keep and pair is not None:
                kept.append(pair)
    if problems:
        count = f"{len(problems)} of {len(pairs)} pairs cannot be used, one because: " if len(problems) > 1 else ""
        raise UserError(count + min(problems))
    return kept
