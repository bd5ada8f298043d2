"""Entry point: runs a command, and turns an error into one sentence and an exit code.

Nothing heavy is imported here: `--help` answers at once.
"""

import difflib
import importlib
import os
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fusion_lightning.allocator import keep_freed_memory
from fusion_lightning.errors import Interrupted, UserError, plain_reason
from fusion_lightning.text import printable

TRAINER_COMMANDS = {
    "fit": "train a method",
    "validate": "score a checkpoint on the validation pairs",
    "test": "score a checkpoint on the test pairs and write the score table",
    "predict": "fuse the test pairs with a checkpoint and write the images",
}
FUNCTION_COMMANDS = {
    "fuse": "fuse your own images, by a rule or a checkpoint",
    "inspect": "say what is wrong with images: noise, blur, haze and their strengths",
    "evaluate": "score folders of fused images, whatever made them",
    "benchmark": "compare methods, scenario by scenario, in tables and pictures",
    "degrade": "write a degraded copy of a folder of images",
    "list": "show what can be named: models, methods, metrics, scenarios, data sets …",
    "export": "write a method as ONNX, TorchScript or pt2, to run without this package",
    "sweep": "search for better settings on this machine with a W&B sweep file",
    "app": "fuse two images on a page in the browser",
    "gallery": "draw every degradation at every severity",
    "demo": "train, test and fuse on built-in scenes in a few minutes",
}

DEBUG = "FUSION_LIGHTNING_DEBUG"
IMPORTS = "FUSION_LIGHTNING_IMPORT"
"""Modules to import first, separated by commas: what ``--import`` hands on to the processes it starts."""

_LONGEST = 600
"""Characters of an error that a person still reads."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: The command line without the program's name; None takes ``sys.argv``.

    Returns:
        The exit code: 0 when all went well, 1 when the work could not be done, 2 when the command line or a
        configuration cannot be understood, 128 + a signal's number when interrupted.
    """
    keep_freed_memory()
    args = list(sys.argv[1:] if args is None else args)
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last: a method in the working directory can be named, but hides nothing
    try:
        args = _import_modules(args)
    except UserError as error:
        return _refuse(_sentence(error))
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0 if args else 2
    if args[0] == "--version":
        from fusion_lightning import __version__

        print(__version__)
        return 0
    command = args[0]
    if command not in TRAINER_COMMANDS | FUNCTION_COMMANDS:
        return _refuse(f"there is no command {command!r}{_suggestion(command)}: see `--help`", code=2)
    try:
        _runner(command)(args)
    except Interrupted as stop:
        return _refuse(_sentence(stop), code=stop.exit_code)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # the Trainer makes one of the other
            return _refuse("interrupted", code=130)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return _refuse("interrupted", code=130)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if any(isinstance(link, KeyboardInterrupt) for link in _chain(error)):
            return _refuse("interrupted", code=130)  # in the middle of writing a file, which fails over its end
        cause = _cause(error)
        # the second is what Lightning calls a setting that it cannot use
        if isinstance(cause, UserError) or type(cause).__name__ == "MisconfigurationException":
            return _refuse(_sentence(cause))
        if isinstance(cause, ModuleNotFoundError) and cause.name and not cause.name.startswith("fusion_lightning"):
            return _refuse(
                f"{sys.executable} lacks the package {cause.name!r}: run `make install` and "
                "`source .venv/bin/activate` in the checkout, or pip install what is missing"
            )
        if isinstance(cause, OSError):
            return _refuse(f"{cause.filename or 'a file'} cannot be read or written: {plain_reason(cause)}")
        return _refuse(f"{type(cause).__name__}: {_sentence(cause)} (traceback in {_keep_traceback()})")
    return 0


def _runner(command: str) -> Callable[[Sequence[str]], object]:
    module, name = (
        ("cli", "run_trainer_command") if command in TRAINER_COMMANDS else ("functions_cli", "run_function_command")
    )
    runner: Callable[[Sequence[str]], object] = getattr(importlib.import_module(f"fusion_lightning.{module}"), name)
    return runner


def _import_modules(args: Sequence[str]) -> list[str]:
    """Import what ``--import MODULE`` names, here and in the processes that are started; returns the other arguments.

    Raises:
        UserError: If a module cannot be imported.
    """
    kept: list[str] = []
    names = [name for name in os.environ.get(IMPORTS, "").split(",") if name]
    rest = iter(args)
    for argument in rest:
        option, _, name = argument.partition("=")
        if option != "--import":
            kept.append(argument)
            continue
        name = name or next(rest, "")
        if not name:
            raise UserError("--import needs the name of a module that holds your methods")
        names.append(name)
    for name in dict.fromkeys(names):
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UserError(f"--import {name}: it cannot be imported ({type(error).__name__}: {error})") from error
    if names:
        os.environ[IMPORTS] = ",".join(dict.fromkeys(names))
    return kept


def _overview() -> str:
    def listing(commands: dict[str, str]) -> str:
        return "\n".join(f"  {name:<10}{what}" for name, what in commands.items())

    return f"""usage: python -m fusion_lightning COMMAND [--config NAME.yaml ...] [--key.path=value ...]

Train, compare and measure fusion of degraded multi-modal images.

commands that run a method:
{listing(TRAINER_COMMANDS)}

other commands:
{listing(FUNCTION_COMMANDS)}

`COMMAND --help` lists a command's arguments. A config given by bare name is looked up in the working
directory, then among the shipped ones. `--import MODULE` makes the methods of a module of yours known. Example:
  python -m fusion_lightning fit --config cled_stage1.yaml --config smoke.yaml"""


def _suggestion(command: str) -> str:
    close = difflib.get_close_matches(command, [*TRAINER_COMMANDS, *FUNCTION_COMMANDS], n=1)
    return f", did you mean {close[0]!r}" if close else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it followed."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _cause(error: BaseException) -> BaseException:
    """The user's mistake behind an error that libraries have wrapped, else the error itself."""
    return next((link for link in _chain(error) if isinstance(link, UserError)), error)


def _sentence(error: BaseException) -> str:
    """First paragraph of an error's text on one line, cut to a readable length."""
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.split("\n\n")[0], _LONGEST, placeholder=" …")


def _keep_traceback() -> Path:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="fusion_lightning-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exc(file=file)
    return Path(file.name)


def _refuse(message: str, code: int = 1) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return code
