"""Configuration files: found by name; the parser's errors as one sentence."""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader

from fusion_lightning.errors import UserError, nearest, suggestion

_FILE_OPTIONS = ("-c", "--config", "--model", "--data", "--trainer", "--optimizer")

_FRAGMENTS = ("data", "model", "trainer")
"""What a configuration may leave to another file, by its name."""
_MOST_VALUES = 100_000
"""Values of a configuration, those that aliases repeat counted as often as they are: a kilobyte can hold millions."""


def config_folder() -> Path:
    """The folder of shipped configurations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def expand_home(value: Any) -> Any:
    """Every text in parsed options that begins with ``~``, as a path from the home folder; all else as it is."""
    if isinstance(value, str):
        return os.path.expanduser(value) if value.startswith("~") else value
    if isinstance(value, Namespace):
        for key, part in vars(value).items():
            setattr(value, key, expand_home(part))
        return value
    if isinstance(value, dict):
        return {key: expand_home(part) for key, part in value.items()}
    return [expand_home(part) for part in value] if isinstance(value, list) else value


def resolve_config_names(args: Sequence[str], folder: str | None = None) -> list[str]:
    """Replace bare names of configuration files in a command line by their paths.

    ``--config NAME.yaml`` (also ``--data``, ``--model``, ``--trainer``) is looked up in the working directory, then in
    the shipped configurations and their subfolders; `folder` is that of `find_config`.

    Raises:
        UserError: If a named file is in neither place.
    """
    resolved = list(args)
    for index, argument in enumerate(resolved):
        option, equals, value = argument.partition("=")
        if option not in _FILE_OPTIONS:
            continue
        if equals:
            resolved[index] = f"{option}={find_config(option, value, folder)}"
        elif index + 1 < len(resolved):
            resolved[index + 1] = find_config(option, resolved[index + 1], folder)
    return resolved


def find_config(option: str, name: str, folder: str | None = None) -> str:
    """The path of a configuration file: as given, or among the shipped ones, by its name or with their folder.

    Args:
        option: What takes it.
        name: What was given.
        folder: The folder of shipped configurations that can be meant, for the suggestion: ``sweeps``.

    Raises:
        UserError: If there is none.
    """
    name = os.path.expanduser(name)
    if Path(name).is_file():
        try:
            Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{option} {name} cannot be read as a configuration: {error}") from error
        return name
    if not name.endswith((".yaml", ".yml")):
        return name
    if not Path(name).is_absolute() and (config_folder() / name).is_file():
        return str(config_folder() / name)
    shipped = {path.name: path for path in sorted(config_folder().rglob("*.yaml"))}
    if name in shipped:
        return str(shipped[name])
    kind = "data" if option.endswith("data") else "configs"
    folder = "data" if kind == "data" else folder
    of_kind = [one for one, path in shipped.items() if folder in (None, path.parent.name)]
    hint = suggestion(Path(name).stem, of_kind, kind)
    raise UserError(f"{option} {name}: there is no such file here, nor among the shipped configurations; {hint}")


def read_yaml(path: str | Path, what: str) -> Any:
    """What a YAML file holds, read as UTF-8 wherever the locale is.

    Args:
        path: The file.
        what: What it should be, for the error: ``a sweep``.

    Raises:
        UserError: If it cannot be read, or repeats itself without end.
    """
    try:
        return _load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as {what}: {' '.join(str(error).split())}") from error


def read_data(name: str, root: str | None = None) -> dict[str, Any]:
    """The arguments of `FusionData` in a fragment of `configs/data`, found as ``--data`` finds it.

    A root takes the place of the fragment's own.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    arguments: dict[str, Any] = read_yaml(find_config("--data", name), "a data set")["init_args"]
    return arguments | ({"root": root} if root else {})


def _load_yaml(text: str) -> Any:
    if "&" in text and "*" in text and _count(yaml.compose(text, yaml.CSafeLoader), {}) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases (*) make more than {_MOST_VALUES:,} values of it: write out what you need")
    return _parsers_yaml(text)


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Values in a tree, each counted as often as it is referred to; endless if one holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted: who meets it meanwhile is within it
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _load_configuration(text: str) -> Any:
    """What the parser makes of a file or a value; fragments that it names are found as on the command line."""
    value = _load_yaml(text)
    for key in _FRAGMENTS if isinstance(value, dict) else ():
        name = value.get(key)
        if isinstance(name, str) and name.endswith((".yaml", ".yml")):
            with contextlib.suppress(UserError):  # it may lie beside the file that names it, where the parser looks
                value[key] = str(Path(find_config(key, name)).absolute())
    return value


_parsers_yaml = get_loader("yaml")  # which takes 1e-4 for a number, as YAML itself does not
set_loader("yaml", _load_configuration, exceptions=(yaml.YAMLError,))


_NOISE = re.compile(
    r"^\s*-?\s*(Does not validate against any of the Union subtypes|Subtypes:.*|Errors:|Given value.*"
    r"|Expected a <class 'NoneType'>.*|Expected a path but .*|tip: .*|)\s*$"
)


_REFUSED = re.compile(
    r"(?P<typed>unrecognized arguments: --(?P<option>[\w.]+)[^;]*)"
    r"|(?:Subcommand '\w+' does not accept option|Option) '(?P<key>[\w.]+)'(?: is not accepted)?"
)


def with_nearest(message: str, known: Sequence[str]) -> str:
    """A parser's error with the options most like the one that it refuses; as it is where it refuses another thing.

    Example:
        >>> with_nearest("Option 'foldrs.a' is not accepted", ["root", "folders"])
        "Option 'foldrs.a' is not accepted; did you mean `folders`?"
    """
    refused = _REFUSED.fullmatch(message)
    if refused is None:
        return message
    option = refused["option"] or refused["key"]
    meant = nearest(option, known) or nearest(option.partition(".")[0], known)
    return f"{message}; {meant}" if meant else message


def place_of_option(message: str, args: Sequence[str]) -> str:
    """Which file of a command line has the option that a parser's error refuses, ``FILE: ``; nothing if none has."""
    refused = _REFUSED.search(message)
    if refused is None or refused["typed"]:
        return ""
    keys = [re.compile(rf"(?m)(?:^|[\s{{,]){re.escape(part)}\s*:") for part in refused["key"].split(".")]
    for argument in reversed(args):
        path = Path(argument.rpartition("=")[2])
        if path.suffix in (".yaml", ".yml") and path.is_file():
            text = path.read_text(encoding="utf-8")
            if all(key.search(text) for key in keys):
                return f"{path}: "
    return ""


def one_sentence(message: str) -> str:
    r"""Shorten the parser's error, a tree of attempts, to one sentence.

    Example:
        >>> one_sentence('Parser key "data":\n  Does not validate against any of the Union subtypes\n  Errors:\n'
        ...         "    - Problem with given class_path 'a.FusionData':\n        Option 'crop' is not accepted")
        "data: FusionData: there is no option 'crop'"
    """
    lines = [line.strip().removeprefix("- ").rstrip(":") for line in message.splitlines() if not _NOISE.match(line)]
    sentence = ": ".join(dict.fromkeys(lines)) or message
    for pattern, replacement in (
        (r"Parser key \"([^\"]+)\"", r"\1"),
        (r"Problem with given class_path '(?:[\w.]*\.)?(\w+)'", r"\1"),
        (
            r"yaml: No module named '([^']+)'",
            r"there is no \1.yaml here, beside the file that names it, or among the shipped configurations",
        ),
        (r"Option '([^']+)' is not accepted", r"there is no option '\1'"),
        (r"Expected a dot import path string: (\S+)", r"there is no class \1"),
        (r"Import path .* does not correspond to a subclass of", "it must be a"),
        (r"Type typing.Callable.* expects a function or a callable class: ", ""),
        (r"\.? Got value: Namespace\(.*\)$", ""),
        (r"Expected an? (?:typing\.Literal)?(.*?)\. Got value: (.*)", r"it must be \1, but got \2"),
        (r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1"),
        (r"the following arguments are required: \w+\.\w+.*", "it is not said what to run: give --config NAME.yaml"),
        (r"the following arguments are required: (.*)", r"\1: not given, see --help"),
        (r"unrecognized arguments: ([^-].*)", r"\1 follows no option: values are given as --option VALUE"),
        (r"unrecognized arguments: (.*)", r"there is no option \1"),
        (r"Subcommand '\w+' does not accept option '([\w.]+)'", r"there is no option '\1'"),
        (r"\s+", " "),
    ):
        sentence = re.sub(pattern, replacement, sentence)
    return sentence
