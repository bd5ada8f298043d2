"""CLI of the commands that are plain functions; their parameters become options."""

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, set_parsing_settings

from fusion_lightning.configuration import (
    expand_home,
    one_sentence,
    place_of_option,
    resolve_config_names,
    with_nearest,
)
from fusion_lightning.text import printable

# else the parser makes an object of every class that is named in a value of type `Any`, which many of the classes that
# a configuration may name take somewhere
set_parsing_settings(instantiate_subclass_spec_in_any=False)

_PLAIN = {"list": "--kind"}
"""Commands whose first word is the value of an option, as in ``list models``: the option."""


def run_function_command(args: Sequence[str]) -> None:
    """Run the function of the same name in ``fusion_lightning.commands``, its arguments as options."""
    function, values = parse_function_command(args)
    function(**values)


def function_of(command: str) -> Callable[..., None]:
    """The function that does a command's work."""
    # the demo uses this command line itself, so it lies above it
    module = "fusion_lightning.demo" if command == "demo" else f"fusion_lightning.commands.{command}"
    function: Callable[..., None] = getattr(importlib.import_module(module), command)
    return function


def parse_function_command(args: Sequence[str]) -> tuple[Callable[..., None], dict[str, Any]]:
    """The function a command line names, and its arguments."""
    command, *rest = args
    function = function_of(command)
    parser = OneSentenceParser(prog=f"python -m fusion_lightning {command}")
    takes_values_from_file = "config" not in get_type_hints(function)  # unlike a sweep, whose own file it is
    if takes_values_from_file:
        parser.add_argument("--config", action="config", help="a YAML file with values for these options")
    parser.add_function_arguments(function, as_group=False)
    if command in _PLAIN and rest and not rest[0].startswith("-"):
        rest.insert(0, _PLAIN[command])
    folder = None if takes_values_from_file else "sweeps"
    values = parser.parse_args(_gather_lists(function, resolve_config_names(rest, folder)))
    if takes_values_from_file:
        values.pop("config", None)
    return function, dict(parser.instantiate_classes(expand_home(values)))


def _gather_lists(function: Callable[..., None], args: Sequence[str]) -> list[str]:
    """Normalise the arguments as typed to what the parser reads.

    ``--source-a`` becomes ``--source_a``, a lone flag ``true``, and the values of an option that takes a list,
    ``--fused A B --fused C``, one JSON list; one written out as in YAML, ``--scenarios=[clean,rain]``, stays as it is.
    """
    options: dict[str, list[str]] = {}
    values = options.setdefault("", [])
    for argument in args:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            values = options.setdefault(name.replace("-", "_").replace("__", "--", 1), [])
            values.extend([value] if equals else [])
        else:
            values.append(argument)
    hints = get_type_hints(function)
    gathered = options.pop("")
    for name, values in options.items():
        hint = hints.get(name.removeprefix("--"))
        if list in (get_origin(hint), *map(get_origin, get_args(hint))):
            written_out = len(values) == 1 and values[0].startswith(("[", "{"))
            gathered += [f"{name}={values[0] if written_out else json.dumps(values)}"]
        elif not values and bool in (hint, *get_args(hint)):
            gathered += [f"{name}=true"]
        else:
            gathered += [f"{name}={value}" for value in values] or [name]
    return gathered


class OneSentenceParser(ArgumentParser):
    """ArgumentParser that reports an error in one sentence instead of a page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the error and exit with code 2."""
        asked = getattr(ex, "subcommand_parser", None) or self
        message = with_nearest(message, [one.dest for one in asked._actions if not one.dest.endswith(".help")])
        if not self.exit_on_error:  # a parser of a class within: what is around it will say where it happened
            super().error(message, ex)
        sys.stderr.write(f"error: {printable(place_of_option(message, self.args) + one_sentence(message))}\n")
        sys.exit(2)
