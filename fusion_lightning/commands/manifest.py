"""Records of what a command has written into its output folder, by which an interrupted one goes on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_lightning.errors import UserError, plain_reason
from fusion_lightning.files import write_atomic

_RECIPE = "recipe.json"

Item = dict[str, Any]
"""What is known of a finished item: plain values, its ``name`` among them."""


class Journal:
    """A file with a line of JSON per item, the last line of a name holding.

    Args:
        path: The file; it appears with its first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.items: dict[str, Item] = {}
        """What was recorded, by name."""
        if path.exists():
            parsed = map(_parse, path.read_text(encoding="utf-8").splitlines())
            self.items = {item["name"]: item for item in parsed if item is not None and "name" in item}

    def keep(self, items: Mapping[str, Item]) -> None:
        """Leave nothing but these items; a line that was cut when its process was killed goes, too."""
        self.items = dict(items)
        text = "".join(_json(item) + "\n" for item in items.values())
        if self.path.exists() and self.path.read_text(encoding="utf-8") != text:
            write_atomic(self.path, text)

    def add(self, item: Item) -> None:
        """Record an item under its ``name``."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_json(item) + "\n")
        self.items[item["name"]] = item


class Manifest:
    """The record of a folder that one recipe fills, and in which nothing is overwritten.

    ``recipe.json`` holds the recipe; ``manifest.jsonl`` a line of JSON per finished item. A new folder appears with its
    first file, so that a command which fails before leaves none.

    Args:
        folder: Where everything goes: new, empty, or that of an earlier run with the same recipe.
        recipe: What decides the content of the folder.

    Raises:
        UserError: If the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self._recipe = recipe
        try:
            self._check()
            self.journal = Journal(folder / "manifest.jsonl")
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {plain_reason(error)}") from error

    def begin(self) -> None:
        """Write the recipe, in a folder that is kept for this process."""
        self._check()
        if not (self.folder / _RECIPE).exists():
            write_atomic(self.folder / _RECIPE, _json(self._recipe, indent=2) + "\n")
        self.journal = Journal(self.journal.path)
        self.journal.keep(self.journal.items)

    def write(self, path: Path, data: bytes) -> str:
        """Write a file, whole or not at all.

        Args:
            path: Where, relative to the folder.
            data: What.

        Returns:
            The path with forward slashes, for the manifest.

        Raises:
            UserError: If it would lie outside the folder, there is another file of that name, or no space.
        """
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{path} would lie outside {self.folder}: name folders without `..`")
        target = self.folder / path
        if target.exists() and target.read_bytes() != data:
            raise UserError(f"{target} exists and is not what this recipe writes: move it away, then run again")
        try:
            if not target.exists():
                write_atomic(target, data)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {plain_reason(error)}; run again to continue") from error
        return path.as_posix()

    def _check(self) -> None:
        file, recipe = self.folder / _RECIPE, self._recipe
        if not file.exists():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise UserError(f"{self.folder} is not empty and not from an earlier run: choose another --output")
            return
        earlier = _parse(file.read_text(encoding="utf-8")) or {}
        differ = [key for key in {**recipe, **earlier} if recipe.get(key) != earlier.get(key)]
        if differ:
            raise UserError(
                f"{self.folder} was written with another {differ[0]} ({json.dumps(earlier.get(differ[0]))} then, "
                f"{json.dumps(recipe.get(differ[0]))} now): choose another --output"
            )


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(content: Item, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False)


def _parse(text: str) -> Item | None:
    try:
        return dict(json.loads(text))
    except ValueError:
        return None
