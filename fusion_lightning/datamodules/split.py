"""Splits into train, val and test: by the folders, by blocks of ids, or by subject."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import numpy as np
import yaml
from lightning.pytorch.utilities import rank_zero_info

from fusion_lightning.datamodules.pairing import SPLITS, PairFiles, natural
from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.text import counted

SplitRule = Literal["auto", "blocks", "subjects", "test"]
Splits = dict[str, list[PairFiles]]
Found = Mapping[str | None, list[PairFiles]]
"""Result of `find_pairs`."""

_BLOCKS = 20
_SLICE_DIGITS = 3


def make_splits(found: Found, rule: SplitRule = "auto", held_out: tuple[float, float] = (0.1, 0.2)) -> Splits:
    """Split pairs into train, val and test, no scene or subject in two of them.

    Neighbouring ids are frames of one drive or slices of one head, so that pairs drawn at random would let a method be
    tested on what it was trained on. Pairs are therefore held out in runs of neighbours. The result depends on the
    names alone: it is the same on every machine and for every seed.

    - ``auto``: the folders' own splits. Where there is a test but no val, val is held out of train in blocks; where
      there is a val but no test, val is tested too. A set without split folders is treated as ``blocks``.
    - ``blocks``: 20 blocks of neighbouring ids, whole blocks held out. The folders' own splits are ignored. Fewer than
      three pairs are validated and tested only.
    - ``subjects``: ids are a subject followed by a three-digit slice (Harvard); whole subjects are held out. The
      folders' own splits are ignored.
    - ``test``: every pair is tested (and validated), none trains.

    Args:
        found: The pairs as the folders hold them.
        rule: See above.
        held_out: The parts of the pairs that go to val and to test.

    Returns:
        ``train``, ``val`` and ``test``, each sorted by name.

    Raises:
        UserError: If `held_out` leaves nothing to train on, or the names hold too few subjects.
    """
    if min(held_out) < 0 or sum(held_out) >= 1:
        raise UserError(f"`held_out` must be two parts that leave some for training, but got {held_out}")
    everything = sorted((pair for pairs in found.values() for pair in pairs), key=lambda pair: natural(pair.name))
    if rule == "test":
        return {"train": [], "val": everything, "test": everything}
    if rule != "auto" or None in found:
        return _hold_out(everything, "subjects" if rule == "subjects" else "blocks", held_out)
    splits: Splits = {split: list(found.get(split, [])) for split in SPLITS}
    if not splits["test"] and not splits["val"]:
        return _hold_out(everything, "blocks", held_out)
    if not splits["test"]:
        rank_zero_info("The data set has no test split: val is tested.")
        splits["test"] = splits["val"]
    if not splits["val"]:
        if splits["train"]:
            held = _hold_out(splits["train"], "blocks", (held_out[0], 0.0))
            splits["train"], splits["val"] = held["train"], held["val"]
        else:
            splits["val"] = splits["test"]
    return splits


def write_splits(splits: Splits, path: str) -> None:
    """Write the names in each split to a YAML file, whole or not at all.

    Args:
        splits: What to write.
        path: Where to write. Missing folders are made.
    """
    names = {split: [pair.name for pair in pairs] for split, pairs in splits.items()}
    write_atomic(Path(path), yaml.safe_dump(names, sort_keys=False, allow_unicode=True))


def read_splits(found: Found, path: str) -> Splits:
    """Read the splits that `write_splits` wrote; pairs that the file does not name are left out.

    Raises:
        UserError: If the file is not such a file, names a pair that the data set lacks, or trains on what it tests.
    """
    try:
        # the base loader leaves names such as 00012 as they stand
        names = yaml.load(Path(path).read_text(encoding="utf-8"), yaml.BaseLoader)
        wanted = {split: _names(names[split]) for split in SPLITS}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"the split file `{path}` must hold lists of names under train, val and test") from error
    if both := sorted(set(wanted["train"]) & {*wanted["val"], *wanted["test"]}):
        raise UserError(
            f"the split file `{path}` trains on {counted(len(both), 'pair')} that it validates or tests, the first is "
            f"`{both[0]}`: leave every pair in one of them"
        )
    pairs = {pair.name: pair for group in found.values() for pair in group}
    missing = sorted({name for group in wanted.values() for name in group} - set(pairs))
    if missing:
        raise UserError(
            f"the split file `{path}` names {counted(len(missing), 'pair')} that the data set does not have, the first "
            f"is `{missing[0]}`: it belongs to another data set, or files are missing"
        )
    return {split: [pairs[name] for name in group] for split, group in wanted.items()}


def _names(group: object) -> list[str]:
    if not isinstance(group, list) or not all(isinstance(name, str) for name in group):
        raise TypeError(group)
    return [normalize("NFC", name) for name in group]


def _hold_out(pairs: list[PairFiles], by: Literal["blocks", "subjects"], held_out: tuple[float, float]) -> Splits:
    if by == "subjects":
        groups: dict[str, list[PairFiles]] = {}
        for pair in pairs:
            groups.setdefault(pair.name.rpartition("/")[2][:-_SLICE_DIGITS], []).append(pair)
        runs = list(groups.values())
    else:
        ends = np.linspace(0, len(pairs), min(_BLOCKS, len(pairs)) + 1).round().astype(int)
        runs = [pairs[start:end] for start, end in pairwise(ends)]
    wanted = {"val": held_out[0], "test": held_out[1]}
    if len(runs) <= sum(part > 0 for part in wanted.values()):
        if by == "subjects":
            raise UserError(
                f"`split: subjects` finds {counted(len(runs), 'subject')} in {counted(len(pairs), 'name')} such as "
                f"`{pairs[0].name}`, too few to hold any out: names must be a subject and a slice of "
                "three digits; else set `split: blocks`"
            )
        rank_zero_info(
            f"{counted(len(pairs), 'pair')}: too few to hold any out, so all are validated and tested, and none trains."
        )
        return {"train": [], "val": list(pairs), "test": list(pairs)}
    split_of_run = ["train"] * len(runs)
    order = iter(np.random.default_rng(0).permutation(len(runs)).tolist())
    for split, part in wanted.items():
        count = 0
        while count < round(part * len(pairs)) or (part > 0 and count == 0):
            run = next(order)
            split_of_run[run], count = split, count + len(runs[run])
    splits: Splits = {split: [] for split in SPLITS}
    for run_pairs, split in zip(runs, split_of_run, strict=True):
        splits[split] += run_pairs
    return splits
