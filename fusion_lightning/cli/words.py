"""The words of a command line of the Trainer commands, as they were typed."""

from collections.abc import Sequence
from pathlib import Path


def typed_arguments(args: Sequence[str]) -> set[str]:
    """The arguments of the method that stand on the command line itself."""
    names = (arg.partition("=")[0].removeprefix("--model.") for arg in args if arg.startswith("--model."))
    return {name.removeprefix("init_args.").partition(".")[0].rstrip("+") for name in names}


def with_options(words: Sequence[str], options: dict[str, str]) -> list[str]:
    """A command line with these options in place of what it says of them."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word.partition("=")[0] not in options:
            kept.append(word)
        elif "=" not in word:
            next(rest, None)  # its value
    return [*kept, *(word for pair in options.items() for word in pair)]


def stem_of_first_config(args: Sequence[str]) -> str | None:
    """The name of the configuration that is named first, without its ending."""
    for index, argument in enumerate(args):
        name, _, value = argument.partition("=")
        if name in ("-c", "--config"):
            return Path(value or args[index + 1]).stem if value or index + 1 < len(args) else None
    return None
