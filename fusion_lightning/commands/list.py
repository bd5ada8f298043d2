"""The `list` command: what can be named."""

from typing import Literal

from fusion_lightning.commands.tables import Cell, Format, Table, print_table
from fusion_lightning.zoo import Model, models


def list(what: Literal["models"], format: Format = "table") -> None:
    """Print the trained models that ship: every name works wherever a checkpoint can be named.

    Args:
        what: ``models``.
        format: ``table`` for the terminal, ``markdown`` or ``latex``.
    """
    header = ("name", "task", "for", "method, parameters", "trained on, licence", "scores on held-out pairs")
    print_table(Table("models that ship", header, [_row(model) for model in models().values()], words=True), format)


def _row(model: Model) -> tuple[Cell, ...]:
    scores = ", ".join(f"{name} {value}" for name, value in model.scores.items())
    method, data = f"{model.method}, {model.millions:.1f} M", f"{model.data}: {model.licence}"
    return tuple(map(Cell, (model.name, model.task, model.use, method, data, scores)))
