"""Escaping of names for terminals, Markdown, LaTeX and file names."""

import re

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "→": r"$\to$",
        "−": "$-$",
        "–": "--",
    }
)
_MARKDOWN = (
    (r"&", "&amp;"),
    (r"<", "&lt;"),
    (r">", "&gt;"),
    (r"([\\`*|~$])", r"\\\1"),
    (r"\](?=[(\[:])", r"\\]"),  # links, and nothing else that has brackets
    (r"(?<![^\W_])_|_(?![^\W_])", r"\\_"),  # within a word it is no emphasis
    (r"://", r":\\/\\/"),
    (r"\bwww\.", r"www\\."),
)
_LINE_STARTS = ((r"^([#+=-])", r"\\\1"), (r"^(\d+)([.)])", r"\1\\\2"))


def counted(count: int, thing: str) -> str:
    """So many of a thing.

    Example:
        >>> counted(1, "pair"), counted(2, "pair")
        ('1 pair', '2 pairs')
    """
    return f"{count} {thing}{'s' * (count != 1)}"


def printable(text: str) -> str:
    """A text in one line; what is not to be seen, as the codes that a terminal obeys, is marked by �."""
    return "".join(one if one.isprintable() else "\ufffd" for one in " ".join(text.split()))


def latex_text(text: str) -> str:
    r"""A text as LaTeX prints it.

    Example:
        >>> latex_text(r"U2_Fusion\input{x}")
        'U2\\_Fusion\\textbackslash{}input\\{x\\}'
    """
    text = printable(text)
    # the end of a row takes a bracket or a star behind it for its own
    return "{}" * text.startswith(("[", "*")) + text.translate(_LATEX)


def markdown_text(text: str, line: bool = False) -> str:
    r"""A text as Markdown shows it: no tags, links, emphasis or tables; at the start of a line, no lists or headings.

    Example:
        >>> markdown_text("<b> | Q_MI [x](y)")
        '&lt;b&gt; \\| Q_MI [x\\](y)'
    """
    text = printable(text)
    for pattern, replacement in (*_MARKDOWN, *(_LINE_STARTS if line else ())):
        text = re.sub(pattern, replacement, text)
    return text
