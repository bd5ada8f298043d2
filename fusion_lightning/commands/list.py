"""The `list` command: what can be named, each with a line of what it is."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fusion_lightning.commands.tables import Cell, Format, Table, print_table
from fusion_lightning.configuration import config_folder
from fusion_lightning.errors import UserError, nearest

Lines = Iterator[tuple[str, str]]
"""Names and what they are."""


def list(kind: str | None = None, format: Format = "table") -> None:
    """Print what can be named: a name, and a line of what it is. Without a kind, the kinds.

    Args:
        kind: ``models``, ``methods``, ``metrics``, ``degradations``, ``scenarios``, ``data`` or ``configs``.
        format: ``table`` for the terminal, ``markdown`` or ``latex``.

    Raises:
        UserError: If there is no such kind.
    """
    kinds: dict[str, Callable[[], Lines]] = {
        "models": _models,
        "methods": _methods,
        "metrics": _metrics,
        "degradations": _degradations,
        "scenarios": _scenarios,
        "data": _data,
        "configs": _configs,
    }
    if kind is not None and kind not in kinds:
        hint = nearest(kind, kinds) or f"kinds are {', '.join(kinds)}"
        raise UserError(f"list {kind}: there is no such kind; {hint}")
    lines = kinds[kind]() if kind else ((name, _first_line(one)) for name, one in kinds.items())
    print_table(Table(kind or "kinds", ("name", "what it is"), [_row(*line) for line in lines], words=True), format)


def _models() -> Lines:
    """Trained models that ship; a name works wherever a checkpoint can be named."""
    from fusion_lightning.zoo import models

    for name, model in models().items():
        scores = ", ".join(f"{score} {value}" for score, value in model.scores.items())
        yield (
            name,
            f"{model.task}: {model.use}. {model.method}, {model.millions:.1f} M parameters, trained on {model.data} "
            f"({model.licence}). On held-out pairs: {scores}",
        )


def _methods() -> Lines:
    """What fuses, restores, estimates or registers: short names of what needs no training, and classes."""
    from fusion_lightning.methods.loading import find_method, known_methods
    from fusion_lightning.methods.vocabulary import short_classes

    for name, class_name in short_classes().items():
        yield name, _first_line(find_method(class_name))
    for method in sorted(known_methods().values(), key=lambda one: one.__name__):
        if not _first_line(method).startswith("Base of"):  # to build on, not to run
            yield method.__name__, _first_line(method)


def _metrics() -> Lines:
    """Scores of fusions, for `--metrics`."""
    from fusion_lightning.metrics import METRICS

    yield from ((name, _first_line(metric)) for name, metric in METRICS.items())


def _degradations() -> Lines:
    """What goes wrong with images, for specifications as `blur(sigma=2)+noise@3`."""
    from fusion_lightning.degradations import EFFECTS

    yield from ((name, _first_line(effect)) for name, effect in EFFECTS.items())


def _scenarios() -> Lines:
    """Named degradations of both sources."""
    from fusion_lightning.degradations import SCENARIOS

    yield from ((name, f"a: {one.a}; b: {one.b}") for name, one in SCENARIOS.items())


def _data() -> Lines:
    """Data sets, for `--data`."""
    yield from _commented(config_folder() / "data")


def _configs() -> Lines:
    """Configurations, for `--config`."""
    yield from _commented(config_folder())
    for folder in sorted(config_folder().iterdir()):
        if folder.is_dir() and folder.name != "data":
            yield from _commented(folder)


def _commented(folder: Path) -> Lines:
    """Files of a folder with the first sentence of the comment they begin with."""
    for path in sorted(folder.glob("*.yaml")):
        comment = re.match(r"(?:#.*\n)*", path.read_text(encoding="utf-8"))
        text = " ".join(line.lstrip("# ") for line in (comment.group() if comment else "").splitlines())
        yield path.name, re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


def _row(name: str, what: str) -> tuple[Cell, Cell]:
    return Cell(name), Cell(what)
