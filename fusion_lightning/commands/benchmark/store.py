"""Trial store of a benchmark: one file per method, data set and scenario."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic
from fusion_lightning.text import printable
from fusion_lightning.zoo import checkpoint_of

_SOURCES = ("source_a", "source_b")
_LONGEST = 180
"""Bytes of a file name, with room for a suffix."""


class Cost(TypedDict):
    """Cost of a method; unknown for published images."""

    parameters: int
    flops: int
    """Of convolutions and matrix products, for the first image."""
    size: list[int]
    """Height and width of the first image."""
    memory: float
    """Peak of the first image in bytes, beyond what was in use before; NaN where it cannot be measured."""


class ImageResult(TypedDict):
    """Scores and time of one image."""

    name: str
    seconds: float
    """NaN for published images."""
    scores: dict[str, float]


@dataclass
class Trial:
    """One method on one data set under one scenario.

    Attributes:
        data: What the data set is called.
        scenario: What the scenario is called.
        method: What the method is called.
        recipe: All that decides the result.
        images: A result for every image; empty if the trial failed.
        cost: What the method needs.
        failure: Why it failed, in one sentence; None if it did not.
    """

    data: str
    scenario: str
    method: str
    recipe: dict[str, Any]
    images: list[ImageResult] = field(default_factory=list)
    cost: Cost | None = None
    failure: str | None = None

    @property
    def place(self) -> Path:
        """The trial's folder or file name, relative to wherever it is kept."""
        return Path(slug(self.data), slug(self.scenario), slug(self.method))


class TrialStore:
    """Folder of trials.

    Args:
        folder: New, empty, or that of an earlier benchmark.

    Raises:
        UserError: If it holds something else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "trials").is_dir())):
            raise UserError(f"{folder} is not empty and not from an earlier benchmark: choose another --output")
        (folder / "trials").mkdir(parents=True, exist_ok=True)

    def finished(self, wanted: Trial) -> Trial | None:
        """The trial as it was finished earlier by the same recipe; says so if the recipe has changed."""
        try:
            found = Trial(**json.loads(self._file(wanted).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        if found.failure is not None:
            return None
        recipes = (found.recipe, wanted.recipe)
        changed = [key for key in wanted.recipe if recipes[0].get(key) != recipes[1][key]]
        if changed:
            where = f"{wanted.method} on {wanted.data}, {wanted.scenario}"
            print(printable(f"{where}: {', '.join(changed)} changed, measured anew"))
            return None
        return found

    def save(self, trial: Trial) -> None:
        """Save a trial atomically."""
        write_atomic(self._file(trial), json.dumps(asdict(trial), indent=1, ensure_ascii=False))

    def _file(self, trial: Trial) -> Path:
        place = self.folder / "trials" / trial.place
        return place.with_name(f"{place.name}.json")


def slug(name: str) -> str:
    """A name as a file name: never one that leads elsewhere, is hidden, or is too long for a file system.

    Example:
        >>> slug("../ours, 3 steps")
        '_ours_3_steps'
    """
    text = re.sub(r"[^\w.-]+", "_", name).strip(".") or "_"
    if len(text.encode()) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 6]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def digests(specification: Any) -> dict[str, str]:
    """Hash of every file, of a shipped model's, and of all files in every folder, named anywhere in a specification."""
    found = {}
    for text in _strings(specification):
        path = checkpoint_of(text)
        if path.is_file():
            found[text] = file_digest(path)
        elif path.is_dir():
            files = [(file.name, file_digest(file)) for file in sorted(path.iterdir()) if file.is_file()]
            found[text] = hashlib.sha256(repr(files).encode()).hexdigest()
    return found


def file_digest(path: str | Path) -> str:
    """Hash of what is in a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)


def check_names(what: str, names: Mapping[str, Any]) -> None:
    """Refuse names that would become the same names of files.

    Raises:
        UserError: If two are too much alike, there are none, or a method is called as a source's pictures are.
    """
    slugs = [slug(name).lower() for name in names]
    if what == "methods" and (taken := [name for name in names if slug(name).lower() in _SOURCES]):
        raise UserError(f"no method may be called {taken[0]!r}: the sources' own pictures are")
    if len(set(slugs)) < len(slugs) or not slugs:
        raise UserError(f"`{what}` needs names that differ in more than signs, but got {', '.join(names) or 'none'}")
