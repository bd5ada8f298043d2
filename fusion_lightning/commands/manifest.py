"""Output folder of a command: filled file by file, resumable, never overwritten."""

import json
from pathlib import Path
from typing import Any

from fusion_lightning.errors import UserError
from fusion_lightning.files import write_atomic

_RECIPE = "recipe.json"


class Manifest:
    """Record of the files a command has written into a folder, and of its recipe.

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
        self._file = folder / "manifest.jsonl"
        self._recipe = recipe
        self._done: set[str] = set()
        try:
            self._open()
        except OSError as error:
            raise UserError(f"{folder} cannot be written: {error.strerror}") from error

    def __contains__(self, name: str) -> bool:
        """Whether an item is finished."""
        return name in self._done

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
            if not (self.folder / _RECIPE).exists():
                write_atomic(self.folder / _RECIPE, _json(self._recipe, indent=2) + "\n")
            if not target.exists():
                write_atomic(target, data)
        except OSError as error:
            raise UserError(f"{target} cannot be written: {error.strerror}; run again to continue") from error
        return path.as_posix()

    def add(self, item: dict[str, Any]) -> None:
        """Record a finished item under its ``name``."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(_json(item) + "\n")
        self._done.add(item["name"])

    def _open(self) -> None:
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
        if self._file.exists():
            lines = self._file.read_text(encoding="utf-8").splitlines()
            items = [(line, item) for line in lines if (item := _parse(line))]
            # the last line may have been cut when the run was interrupted
            if len(items) < len(lines):
                self._file.write_text("".join(line + "\n" for line, _ in items), encoding="utf-8")
            self._done = {item["name"] for _, item in items}


def _json(content: dict[str, Any], indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, ensure_ascii=False)


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(text))
    except ValueError:
        return None
