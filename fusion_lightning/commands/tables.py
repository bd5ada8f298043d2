"""Tables as terminal text, Markdown and LaTeX; best in bold, second underlined."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.box import HEAVY_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from fusion_lightning.text import latex_text, markdown_text, printable

Format = Literal["table", "markdown", "latex"]


class Cell(NamedTuple):
    """One value as it is printed."""

    text: str
    rank: int = 0
    """1 for the best of its column, 2 for the second, 0 for the others."""


class Table(NamedTuple):
    """A header and rows of as many cells; the first column holds names, the others numbers or, said so, words."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: bool = False


def print_table(table: Table, format: Format) -> None:
    """Print a table to standard output."""
    if format == "table":
        _print_rich(table)
    else:
        print(markdown(table) if format == "markdown" else latex(table))


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, which has no underline but knows the HTML tag."""
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    lines = [
        f"{markdown_text(table.title, line=True)}\n",
        "| " + " | ".join(map(markdown_text, table.header)) + " |",
        "|" + " --- |" + " ---: |" * (len(table.header) - 1),
    ]
    for row in table.rows:
        cells = (marks[cell.rank].format(markdown_text(cell.text)) for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """The table as a LaTeX `tabular` with the rules of the booktabs package."""
    marks = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    lines = [
        f"% {printable(table.title)}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(latex_text(text) for text in table.header) + r" \\",
        r"\midrule",
        *(" & ".join(marks[cell.rank].format(latex_text(cell.text)) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _print_rich(table: Table) -> None:
    console = Console()
    styles = {0: "", 1: "bold", 2: "underline"}
    drawn = RichTable(title=Text(printable(table.title)), title_justify="left", box=None if table.words else HEAVY_HEAD)
    for i, text in enumerate(table.header):
        name = i == 0
        drawn.add_column(
            Text(printable(text)),
            justify="left" if name or table.words else "right",
            no_wrap=name or not table.words,
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell.text), styles[cell.rank]) for cell in row))
    if not (table.words and console.is_terminal):
        # numbers wider than the terminal scroll instead of losing their columns, words are wrapped
        widest = console.measure(drawn, options=console.options.update(width=1000)).maximum
        console = Console(width=max(console.width, widest))
    console.print(drawn)
