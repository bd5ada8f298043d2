"""Finding image files and pairing them by name, for data modules and commands alike."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict
from unicodedata import normalize

from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.io import LOOKS_LIKE_AN_IMAGE, SUFFIXES
from fusion_lightning.imaging.video import VIDEOS
from fusion_lightning.imaging.volumes import is_nifti
from fusion_lightning.text import counted

SPLITS = ("train", "val", "test")
_SPLIT_FOLDERS = {"train": "train|training", "val": "val|valid|validation|eval|dev", "test": "test|testing"}
"""Names that data sets give to the folders of their splits, in any case."""

_ENDINGS = re.compile(
    r"(?i)([-_. ]|(?<=\d))(ir|inf|infrared|thermal|lwir|vi|vis|visible|rgb|ct|mri|pet|spect|fused|fusion|result)$"
)
"""What tells the images of a pair apart at the end of their names."""

_NAMED = 3
"""As many images are named in an error."""


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


class PairFiles(NamedTuple):
    """The files of one pair."""

    name: str
    """The stem they share, after whatever stood for the ``*`` of the pattern."""
    files: dict[str, str]
    """Role (``a``, ``b``, ``clean_a``, ``clean_b``) -> path."""
    scenario: str = "delivered"
    """What stood for the ``*`` of a folder, which names the degradation in sets such as EMS."""


def find_images(place: str, option: str) -> dict[str, Path]:
    """The images that a place holds, by name in natural order.

    Args:
        place: An image, a folder, or a pattern whose ``*`` stands for a part of the names (``DIR/*_IR.png``).
        option: What the user calls it, for errors.

    Raises:
        UserError: If there is no such place, no image in it, or two images share a name.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return {normalize("NFC", path.stem): path}
    if path.is_dir():
        found = _collect(path, ["*"])
    elif "*" in place:
        parts = path.parts[bool(path.anchor) :]
        found = _collect(Path(path.anchor), parts if "*" in parts[-1] else [*parts, "*"])
    else:
        raise UserError(f"{option} {place}: there is no such file or folder")
    if not found:
        raise UserError(f"{option} {place} holds no images ({', '.join(sorted(SUFFIXES))})")
    return {key.replace("/", "_"): found[key] for key in sorted(found, key=natural)}


def pair_images(places: Mapping[str, str]) -> dict[str, dict[str, Path]]:
    """Pair the images of several places by name.

    Two single images belong together whatever they are called; the pair then has the first one's name.

    Args:
        places: What the user calls each place (``--source-a``) and what `find_images` takes.

    Returns:
        Name -> the path in each place, in natural order.

    Raises:
        UserError: If a place cannot be read or images have no partner.
    """
    found = {option: find_images(place, option.split()[0]) for option, place in places.items()}
    if all(Path(place).expanduser().is_file() for place in places.values()):
        name = next(iter(next(iter(found.values()))))
        return {name: {option: next(iter(images.values())) for option, images in found.items()}}
    where = {option: f"{option.split()[0]} {place}" for option, place in places.items()}
    return pair_by_name(found, where, "complete or remove them")


def find_pairs(root: str, folders: Mapping[str, str], by_order: bool = False) -> dict[str | None, list[PairFiles]]:
    """Find the pairs of a data set, and the splits that its folders make.

    A pattern is a folder under the root (``M3FD_Fusion/Ir``), in which images are paired by stem. The folders of a
    split (``train``, ``val`` or ``valid``, ``test`` and their long forms, in any case) are found around it
    (``train/ir``) or inside it (``ir/train``), or where the pattern says ``{split}``. A ``*`` stands for any name: for
    a folder (``*/{split}/Infrared``), or for part of a file's name, if the pattern ends in an image suffix
    (``*_IR.png``); what it stood for has to agree. Names that differ only in an ending such as ``_IR`` and ``_VIS``,
    or in how Unicode writes an accent, are the same.

    Args:
        root: The data set's folder.
        folders: Role -> pattern, see `Folders`.
        by_order: Pair by sorted order instead of by stem.

    Returns:
        Split -> its pairs sorted by name. The key is None when the folders make no splits. No two names are the same:
        one that several splits hold is preceded by its split.

    Raises:
        UserError: If the root or a folder is missing, cannot be listed, or holds no image, or images stay without a
            partner.
    """
    place = Path(root).expanduser()
    if not place.is_dir():
        raise UserError(f"the data folder `{root}` does not exist: see data/README.md for how to get a data set")
    found: dict[str | None, list[PairFiles]] = {}
    for split in (*SPLITS, None):
        if split is None and found:
            break
        files = {
            role: _find_files(place, pattern, split and _SPLIT_FOLDERS[split]) for role, pattern in folders.items()
        }
        if any(files.values()):
            found[split] = _pair(files, root, folders, split, by_order)
    if not found:
        tried = " nor ".join(f"`{pattern}`" for pattern in folders.values())
        there = ", ".join(sorted(one.name for one in place.iterdir() if one.is_dir())[:8]) or "none"
        raise UserError(
            f"no images in `{root}`: neither {tried} (alone or with train, val, test) holds any; folders there are: "
            f"{there}"
        )
    if None not in found:
        _name_unused_splits(place, folders["a"], {pair.files["a"] for pairs in found.values() for pair in pairs})
    return _with_unique_names(found)


def natural(name: str) -> list[str]:
    """Sort key that puts 10 after 9."""
    return [part.zfill(12) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _pair(
    files: dict[str, dict[str, Path]], root: str, folders: Mapping[str, str], split: str | None, by_order: bool
) -> list[PairFiles]:
    place = f"`{root}`" + (f" ({split})" if split else "")
    for role, of_role in files.items():
        if not of_role:
            raise UserError(f"no images for `{role}` in {place}: `{folders[role]}` is missing or empty")
    if by_order:
        counts = {role: len(of_role) for role, of_role in files.items()}
        if len(set(counts.values())) > 1:
            raise UserError(f"`pair_by: order` needs equally many images for every role, but {place} has {counts}")
        names = sorted(files["a"], key=natural)
        ordered = {role: [of_role[key] for key in sorted(of_role, key=natural)] for role, of_role in files.items()}
        files = {role: dict(zip(names, paths, strict=True)) for role, paths in ordered.items()}
    where = {role: f"`{folders[role]}`" for role in files}
    advice = f"complete or remove them in {place}, or set `pair_by: order` if their sorted order pairs them"
    pairs = []
    for name, of_pair in pair_by_name(files, where, advice).items():
        group = name.rpartition("/")[0].replace("/", "_") or "delivered"
        pairs.append(PairFiles(name.replace("/", "_"), {role: str(path) for role, path in of_pair.items()}, group))
    return pairs


def pair_by_name(
    files: Mapping[str, Mapping[str, Path]], where: Mapping[str, str], advice: str
) -> dict[str, dict[str, Path]]:
    """Pair files that every place holds under one name, but for endings such as ``_IR`` and ``_VIS``.

    Args:
        files: Place -> name -> path.
        where: Place -> what it is called in errors.
        advice: What to do about files without a partner.

    Returns:
        Name -> place -> path, in natural order.

    Raises:
        UserError: If a file has no partner.
    """
    names = {name for of_place in files.values() for name in of_place}
    if any(set(of_place) != names for of_place in files.values()):
        shorter = {place: _without_endings(of_place) for place, of_place in files.items()}
        if len({frozenset(of_place) for of_place in shorter.values()}) == 1:
            files, names = shorter, set(next(iter(shorter.values())))
    alone = []
    for name in sorted(names, key=natural):
        have = next(place for place, of_place in files.items() if name in of_place)
        lacking = [where[place] for place, of_place in files.items() if name not in of_place]
        alone += [f"`{name}`, which is in {where[have]} but not in {' nor in '.join(lacking)}"] if lacking else []
    if alone:
        more = f"; and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
        raise UserError(
            f"{counted(len(alone), 'image')} without a partner of the same name: "
            f"{'; '.join(alone[:_NAMED])}{more}: {advice}"
        )
    return {name: {place: of_place[name] for place, of_place in files.items()} for name in sorted(names, key=natural)}


def _without_endings(files: Mapping[str, Path]) -> Mapping[str, Path]:
    """The same files with ``_IR``, ``_VIS`` and the like taken off their names, if these stay different."""
    shorter = {_ENDINGS.sub("", name) or name: path for name, path in files.items()}
    return shorter if len(shorter) == len(files) else files


def _with_unique_names(found: dict[str | None, list[PairFiles]]) -> dict[str | None, list[PairFiles]]:
    """The pairs, their split before a name that several splits have; two of one name in one split are refused."""
    count = Counter(pair.name for pairs in found.values() for pair in pairs)
    for pairs in found.values():
        of_name: dict[str, str] = {}
        for pair in pairs:
            if pair.name in of_name:
                raise UserError(f"`{of_name[pair.name]}` and `{pair.files['a']}` would share the name `{pair.name}`")
            of_name[pair.name] = pair.files["a"]
    return {
        split: [pair._replace(name=f"{split}/{pair.name}") if count[pair.name] > 1 else pair for pair in pairs]
        for split, pairs in found.items()
    }


def _find_files(root: Path, pattern: str, split: str | None) -> dict[str, Path]:
    """Images that a pattern finds in the folders of a split: what its ``*`` stood for and the stem -> path."""
    for template in _templates(pattern) if split else [] if "{split}" in pattern else [pattern]:
        parts = [part.replace("{split}", f"\0{split}\0") for part in template.split("/")]
        is_file = os.path.splitext(parts[-1])[1].lower() in SUFFIXES
        if files := _collect(root, parts if is_file else [*parts, "*"]):
            return files
    return {}


def _templates(pattern: str) -> list[str]:
    """Where the folders of splits may stand in a pattern."""
    return [pattern] if "{split}" in pattern else ["{split}/" + pattern, pattern + "/{split}"]


def _name_unused_splits(root: Path, pattern: str, used: set[str]) -> None:
    """Say which folders beside those of the splits hold images that no split has."""
    for template in _templates(pattern):
        parts = template.split("/")
        at = next(index for index, part in enumerate(parts) if "{split}" in part)
        parts[at] = parts[at].replace("{split}", "*")
        is_file = os.path.splitext(parts[-1])[1].lower() in SUFFIXES
        files = _collect(root, parts if is_file else [*parts, "*"], quiet=True).values()
        if any(str(path) in used for path in files):
            unused = sorted({path.relative_to(root).parts[at] for path in files if str(path) not in used})
            if unused:
                notice(f"{root}: {', '.join(unused)} also holds images, but is no split that is known; it is not used")


def _collect(root: Path, parts: Sequence[str], quiet: bool = False) -> dict[str, Path]:
    """Images whose path matches: what the ``*`` stood for, joined by ``/``, without a suffix -> path."""
    found: dict[str, Path] = {}
    for path, key in _expand(root, parts):
        stem, suffix = os.path.splitext(path.name)
        if stem.startswith(".") or path.is_dir():
            continue
        if suffix.lower() not in SUFFIXES:
            if suffix.lower() in LOOKS_LIKE_AN_IMAGE and not quiet:
                notice(f"{path} is passed over: {_advice(path)}")
            continue
        if parts[-1] == "*":
            key = os.path.splitext(key)[0]
        elif "*" in os.path.splitext(parts[-1])[1]:
            key = key.rpartition("/")[0]
        key = normalize("NFC", key)
        if key in found:
            raise UserError(f"`{found[key]}` and `{path}` have the same stem: keep one of them")
        if not path.exists():
            raise UserError(f"the image `{path}` is a link to nothing: restore its target or remove the pair")
        if path.stat().st_size == 0:
            raise UserError(f"the image `{path}` is empty (0 bytes): copy it again or remove the pair")
        found[key] = path
    return found


def _advice(path: Path) -> str:
    """What to do about a file that looks like an image and is not read as one."""
    if is_nifti(path):
        return "volumes are for `fuse` and `evaluate`, save the slices as images"
    if path.suffix.lower() in VIDEOS:
        return "videos are for `fuse` and `evaluate`, save the frames as images"
    return f"{path.suffix} files are not read, save it as PNG or TIFF"


def _expand(folder: Path, parts: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Paths under a folder that match the parts of a pattern, each with what its ``*`` stood for.

    A part may hold names to choose from, between zero bytes: ``val|valid``, in any case.
    """
    part, *rest = parts
    if "*" in part or "\0" in part:
        pieces = re.split(r"(\*|\0.*?\0)", part)
        words = {"*": "(.*)"} | {piece: f"(?i:{piece[1:-1]})" for piece in pieces if piece.startswith("\0")}
        expression = re.compile("".join(words.get(piece) or re.escape(piece) for piece in pieces))
        matches = [
            (name, "/".join(match.groups())) for name in _listing(folder) if (match := expression.fullmatch(name))
        ]
    else:
        matches = [(part, "")]
    for name, stood_for in matches:
        if not rest:
            yield folder / name, stood_for
            continue
        for path, key in _expand(folder / name, rest):
            yield path, f"{stood_for}/{key}" if stood_for else key


def _listing(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder)) if folder.is_dir() else []
    except PermissionError as error:
        blocked = next((place for place in reversed(folder.parents) if not os.access(place, os.X_OK)), folder)
        raise UserError(f"the folder `{blocked}` cannot be listed: you lack the permission") from error
