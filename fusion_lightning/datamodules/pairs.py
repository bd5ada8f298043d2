"""Finds, pairs and reads the images of a data set's folders."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import SUFFIXES, read_image

SPLITS = ("train", "val", "test")
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "eval"), "test": ("test",)}
"""Names that data sets give to the folders of their splits."""


class Folders(TypedDict, total=False):
    """Where the images of each role lie under the root; see `find_pairs` for what a pattern may hold."""

    a: str
    """The source that carries intensity: infrared, PET, SPECT, CT."""
    b: str
    """The source that carries detail: visible, MRI."""
    clean_a: str
    """Clean twins of ``a``, when ``a`` was delivered degraded."""
    clean_b: str
    """Clean twins of ``b``, when ``b`` was delivered degraded."""


class Pair(NamedTuple):
    """Images of one scene, uint8 (H, W, 1 or 3); a clean twin is None where none was delivered."""

    name: str
    a: np.ndarray
    b: np.ndarray
    clean_a: np.ndarray | None = None
    clean_b: np.ndarray | None = None
    scenario: str = "delivered"


class PairFiles(NamedTuple):
    """The files of one pair."""

    name: str
    """The stem they share, after whatever stood for the ``*`` of the pattern."""
    files: dict[str, str]
    """Role (``a``, ``b``, ``clean_a``, ``clean_b``) -> path."""
    scenario: str = "delivered"
    """What stood for the ``*`` of a folder, which names the degradation in sets such as EMS."""


class FolderPairs:
    """Pairs read from files, in the order of their names.

    Args:
        pairs: The files of each pair.
        color: Which source carries colour and is read as RGB; the other one, or both, are read as grey.
    """

    def __init__(self, pairs: Sequence[PairFiles], color: Literal["a", "b"] | None) -> None:
        self.pairs = pairs
        self.color = color

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """Read one pair.

        Raises:
            UserError: If a file cannot be read, or the sizes of the images do not fit each other.
        """
        name, files, scenario = self.pairs[index]
        images = {role: read_image(path, 3 if role[-1] == self.color else 1) for role, path in files.items()}
        _check_sizes(images, files)
        return Pair(name, scenario=scenario, **images)


def find_pairs(root: str, folders: Mapping[str, str], by_order: bool = False) -> dict[str | None, list[PairFiles]]:
    """Find the pairs of a data set, and the splits that its folders make.

    A pattern is a folder under the root (``M3FD_Fusion/Ir``), in which images are paired by stem. The folders of a
    split (``train``, ``val`` or ``eval``, ``test``) are found around it (``train/ir``) or inside it (``ir/train``), or
    where the pattern says ``{split}``. A ``*`` stands for any name: for a folder (``*/{split}/Infrared``), or for part
    of a file's name, if the pattern ends in an image suffix (``*_IR.png``); what it stood for has to agree.

    Args:
        root: The data set's folder.
        folders: Role -> pattern, see `Folders`.
        by_order: Pair by sorted order instead of by stem.

    Returns:
        Split -> its pairs sorted by name. The key is None when the folders make no splits.

    Raises:
        UserError: If the root or a folder is missing, cannot be listed, or holds no image, or images
            stay without a partner.
    """
    if not os.path.isdir(root):
        raise UserError(f"the data folder `{root}` does not exist: see data/README.md for how to get a data set")
    found: dict[str | None, list[PairFiles]] = {}
    for split in (*SPLITS, None):
        if split is None and found:
            break
        files = {role: _find_files(root, pattern, split) for role, pattern in folders.items()}
        if any(files.values()):
            found[split] = _match(files, root, folders, split, by_order)
    if not found:
        tried = " nor ".join(f"`{pattern}`" for pattern in folders.values())
        raise UserError(f"no images in `{root}`: neither {tried} (alone or with train, val, test) holds any")
    return found


def _match(
    files: dict[str, dict[str, str]], root: str, folders: Mapping[str, str], split: str | None, by_order: bool
) -> list[PairFiles]:
    place = f"`{root}`" + (f" ({split})" if split else "")
    for role, of_role in files.items():
        if not of_role:
            raise UserError(f"no images for `{role}` in {place}: `{folders[role]}` is missing or empty")
    names = sorted(files["a"], key=natural)
    if by_order:
        counts = {role: len(of_role) for role, of_role in files.items()}
        if len(set(counts.values())) > 1:
            raise UserError(f"`pair_by: order` needs equally many images for every role, but {place} has {counts}")
        ordered = {role: [of_role[key] for key in sorted(of_role, key=natural)] for role, of_role in files.items()}
        files = {role: dict(zip(names, paths, strict=True)) for role, paths in ordered.items()}
    for role, of_role in files.items():
        alone = sorted(set(of_role) ^ set(names))
        if alone:
            have, lack = ("a", role) if alone[0] in files["a"] else (role, "a")
            raise UserError(
                f"{len(alone)} images in {place} have no partner of the same name, the first is `{alone[0]}`, "
                f"which is in `{folders[have]}` but not in `{folders[lack]}`: complete or remove them, or set "
                "`pair_by: order` if their sorted order pairs them"
            )
    pairs = []
    for name in names:
        group, _, _ = name.rpartition("/")
        files_of_pair = {role: of_role[name] for role, of_role in files.items()}
        pairs.append(PairFiles(name.replace("/", "_"), files_of_pair, group.replace("/", "_") or "delivered"))
    return pairs


def natural(name: str) -> list[str]:
    """Sort key that puts 10 after 9."""
    return [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _find_files(root: str, pattern: str, split: str | None) -> dict[str, str]:
    """Images that a pattern finds: what its ``*`` stood for and the stem, joined by ``/`` -> path."""
    if split is None:
        templates = [] if "{split}" in pattern else [pattern]
    else:
        around = [pattern] if "{split}" in pattern else ["{split}/" + pattern, pattern + "/{split}"]
        templates = [place.replace("{split}", name) for name in _SPLIT_FOLDERS[split] for place in around]
    for template in templates:
        if os.path.splitext(template)[1].lower() not in SUFFIXES:
            template += "/*"
        files: dict[str, str] = {}
        for path, key in _expand(Path(root), template.split("/")):
            stem, suffix = os.path.splitext(path.name)
            if suffix.lower() not in SUFFIXES or stem.startswith(".") or path.is_dir():
                continue
            key = os.path.splitext(key)[0] if template.endswith("/*") else key
            if key in files:
                raise UserError(f"`{files[key]}` and `{path}` have the same stem: keep one of them")
            if not path.exists():
                raise UserError(f"the image `{path}` is a link to nothing: restore its target or remove the pair")
            if path.stat().st_size == 0:
                raise UserError(f"the image `{path}` is empty (0 bytes): copy it again or remove the pair")
            files[key] = str(path)
        if files:
            return files
    return {}


def _expand(folder: Path, parts: list[str]) -> Iterable[tuple[Path, str]]:
    """Paths under a folder that match the parts of a pattern, each with what its ``*`` stood for."""
    part, *rest = parts
    if "*" in part:
        expression = re.compile("(.*)".join(map(re.escape, part.split("*"))))
        try:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
        except PermissionError as error:
            blocked = next((place for place in reversed(folder.parents) if not os.access(place, os.X_OK)), folder)
            raise UserError(f"the folder `{blocked}` cannot be listed: you lack the permission") from error
        matches = [(name, "/".join(match.groups())) for name in names if (match := expression.fullmatch(name))]
    else:
        matches = [(part, "")]
    for name, stood_for in matches:
        if not rest:
            yield folder / name, stood_for
            continue
        for path, key in _expand(folder / name, rest):
            yield path, f"{stood_for}/{key}" if stood_for else key


def _check_sizes(images: Mapping[str, np.ndarray], files: Mapping[str, str]) -> None:
    """Every image must be as large as the largest, or a whole number of times smaller."""
    largest = max(images, key=lambda role: images[role].shape[0])
    height, width = images[largest].shape[:2]
    for role, image in images.items():
        factor = height // image.shape[0]
        if (image.shape[0] * factor, image.shape[1] * factor) != (height, width):
            raise UserError(
                f"`{files[role]}` has {image.shape[1]}×{image.shape[0]} pixels and `{files[largest]}` has "
                f"{width}×{height}: sizes must be equal or a whole number of times smaller"
            )
