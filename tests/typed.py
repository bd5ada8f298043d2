"""What the documents tell people to type: command lines, options, targets and files, found in their text."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from fusion_lightning.configuration import config_folder

ROOT = Path(__file__).parents[1]
_PROGRAM = re.compile(r"-m fusion_lightning (?=[a-z])")
_OPTION = re.compile(r"--[a-zA-Z][\w.-]*")


@dataclass(frozen=True)
class Typed:
    """A command line of ``fusion_lightning``, or some of its options, and the document that has it."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"

    def value(self, option: str) -> str | None:
        """The last value of an option."""
        found = None
        for word, following in zip(self.words, (*self.words[1:], ""), strict=True):
            name, equals, value = word.partition("=")
            if name == option:
                found = value if equals else following
        return found


def documents() -> list[Path]:
    """Everything that tells people what to type: Markdown, and the comments of the configurations."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(pages) + sorted(config_folder().rglob("*.yaml"))


def command_lines(path: Path) -> Iterator[Typed]:
    """The command lines of a document, from the command on."""
    for text in _code(path):
        match = _PROGRAM.search(text)
        if match:
            words = shlex.split(text[match.end() :], comments=True)
            words = [word.strip("[]") if word.startswith("[--") or word.endswith(".png]") else word for word in words]
            # "`sweep --config` this file", as a configuration says of itself
            yield Typed(_name(path), (*words, str(path)) if words[-1] == "--config" else tuple(words))


def loose_options(path: Path) -> Iterator[Typed]:
    """Code that is an option, as in "`--data.margin 8`", and nothing else."""
    for text in _code(path):
        if _OPTION.match(text):
            yield Typed(_name(path), tuple(shlex.split(text, comments=True)))


def other_programs(path: Path, program: str) -> Iterator[list[str]]:
    """The words after a program, as in ``make demo``, wherever it stands in code."""
    for text in _code(path):
        for found in re.findall(rf"(?:^|[;&] ?){program} ([^#;]+)", text):
            yield shlex.split(found)


def options_of(words: tuple[str, ...]) -> list[str]:
    """The options among words, with underscores for dashes, without values."""
    return ["--" + word[2:].partition("=")[0].rstrip("+").replace("-", "_") for word in words if _OPTION.match(word)]


def _name(path: Path) -> str:
    folder = config_folder()
    return f"configs/{path.relative_to(folder)}" if path.is_relative_to(folder) else str(path.relative_to(ROOT))


def _code(path: Path) -> Iterator[str]:
    """Lines of shell, and what stands between backticks, however it is wrapped."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "bash", "sh", "console"):
            yield from re.sub(r"\\\n\s*", "", block).splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))


def folders_of(fragment: str) -> tuple[dict[str, str], str]:
    """Where the images of a data set lie and which source has colour, by its fragment in ``configs/data``."""
    content = yaml.safe_load((config_folder() / "data" / fragment).read_text(encoding="utf-8"))
    return content["init_args"]["folders"], content["init_args"].get("color", "b")
