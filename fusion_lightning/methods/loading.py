"""Builds a method from a checkpoint, a class name, or class_path and init_args.

What a file says is looked up among the methods that were imported before; it never leads to an import.
"""

import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fusion_lightning.errors import UserError, suggestion
from fusion_lightning.methods.base import FusionMethod, method_path
from fusion_lightning.methods.vocabulary import short_names, spelled_out
from fusion_lightning.zoo import checkpoint_of

Stage = TypeVar("Stage", bound=FusionMethod)

ENTRY_POINTS = "fusion_lightning.methods"
"""The group of entry points by which an installed package declares its methods."""

if TYPE_CHECKING:
    Arguments = dict[str, Any]
else:
    Arguments = dict
    """Arguments by name. To the parser no more than a dict: it makes an object of every class named in an `Any`."""


class MethodClass(TypedDict):
    """A class and its arguments."""

    class_path: str
    init_args: NotRequired[Arguments]


Specification = str | MethodClass
"""A short name (`spelled_out`), the path of a checkpoint, a class, or ``{class_path: NAME, init_args: {…}}``."""


def build_method(specification: Specification) -> FusionMethod:
    """Build a method, in evaluation.

    Raises:
        UserError: If there is no such class or checkpoint, the arguments are not the class's, or the class learns: it
            has to be trained first, and come from a checkpoint.
    """
    named = look_up(specification)
    if isinstance(named, str):
        return load_method(named).eval()
    found, arguments = named
    try:
        method = found(**arguments).eval()
    except TypeError as error:
        raise UserError(f"{found.__name__} cannot be built: {error}") from error
    if any(parameter.requires_grad for parameter in method.parameters()):
        raise UserError(
            f"{found.__name__} has to be trained first: give the checkpoint that `fit` wrote instead of the class"
        )
    return method


def look_up(specification: Specification) -> str | tuple[type[FusionMethod], Mapping[str, Any]]:
    """What a specification names, before anything is built or read: a checkpoint's path, or a class and its arguments.

    Raises:
        UserError: If there is no such class, or the specification is none.
    """
    named = spelled_out(specification) if isinstance(specification, str) else specification
    if isinstance(named, str) and (named.endswith(".ckpt") or Path(named).is_file()):
        return named
    wanted: dict[str, Any] = {"class_path": named} if isinstance(named, str) else {**named}
    if "class_path" not in wanted or not set(wanted) <= {"class_path", "init_args"}:
        raise UserError(f"a method must be a .ckpt file, a class, or `class_path` and `init_args`, but got {wanted}")
    name = str(wanted["class_path"])
    found = find_method(name)
    if found is None:
        names = [*short_names(), *(one.__name__ for one in known_methods().values())]
        package = f", and --import {name.rpartition('.')[0]} makes those of a module known" if "." in name else ""
        raise UserError(
            f"there is no method {name!r}: {suggestion(name, names, 'methods')}, checkpoints end in .ckpt{package}"
        )
    arguments = wanted.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        raise UserError(f"`init_args` of {name} must be a mapping of arguments, but got {arguments!r}")
    return found, arguments


def known_methods() -> dict[str, type[FusionMethod]]:
    """Every method that was imported, or is declared by an installed package, by its `method_path`."""
    for declared in entry_points(group=ENTRY_POINTS):
        try:
            declared.load()
        except Exception as error:
            raise UserError(
                f"{declared.value}, a method that a package declares, cannot be imported: {error}"
            ) from error
    found: dict[str, type[FusionMethod]] = {}
    waiting = list(FusionMethod.__subclasses__())
    while waiting:
        method = waiting.pop()
        if not method.__name__.startswith("_"):
            found[method_path(method)] = method
        waiting.extend(method.__subclasses__())
    return found


def find_method(name: str) -> type[FusionMethod] | None:
    """The method of a name, if it is known: its class name, or where it can be imported from; nothing is imported.

    The package's own methods come first among those of one class name.
    """
    known = known_methods()
    if name in known:
        return known[name]
    module, _, attribute = name.rpartition(".")
    if module:  # another way to import the same class
        found = vars(sys.modules[module]).get(attribute) if module in sys.modules else None
        return found if found in known.values() else None
    alike = sorted(path for path, method in known.items() if method.__name__ == name)
    ours = [path for path in alike if path.startswith(f"{ENTRY_POINTS}.")]
    return known[(ours or alike)[0]] if alike else None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of a fusion method onto the CPU; nothing in the file is executed.

    Args:
        path: A ``.ckpt`` file, or the name of a model that ships.

    Raises:
        UserError: If the file is missing, is no checkpoint, or was not written by a fusion method.
    """
    path = checkpoint_of(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: check the path")
    try:
        # torch does not compare the sums that it writes: a flipped bit would be a wrong weight
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint (it is damaged, or holds more than weights and plain values): "
            "give a .ckpt file written by `fit`"
        ) from error
    if not isinstance(checkpoint, dict) or not {"method", "state_dict", "hyper_parameters"} <= set(checkpoint):
        raise UserError(f"{path} was not written by a fusion method: give a .ckpt file written by `fit`")
    for key, of in (("state_dict", Tensor), ("hyper_parameters", object)):
        part = checkpoint[key]
        whole = isinstance(part, Mapping) and all(isinstance(name, str) for name in part)
        if not whole or not all(isinstance(value, of) for value in part.values()):
            raise UserError(f"{path} is no checkpoint: its `{key}` is damaged: give a .ckpt file written by `fit`")
    return checkpoint


def method_of(checkpoint: Mapping[str, Any], path: str | Path) -> type[FusionMethod]:
    """The class that a checkpoint belongs to.

    Raises:
        UserError: If it is not known: a checkpoint is not believed where to import it from.
    """
    name = checkpoint["method"]
    method = find_method(name) if isinstance(name, str) else None
    if method is None:
        package = str(name).rpartition(".")[0]
        hint = f"if you trust it, add --import {package}" if package else "import the module it is in"
        raise UserError(f"{path} holds a {name}, which is not known here: {hint}")
    return method


def check_weights(method: FusionMethod, saved: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare the weights of a checkpoint with those of a method that was built to receive them.

    Args:
        method: The method.
        saved: The checkpoint's weights by name.
        path: Where they come from, for the message.

    Raises:
        UserError: If there are others, or if some are of other shapes.
    """
    own = method.state_dict()
    for name in sorted({*saved, *own}):
        shapes = [tuple(state[name].shape) if name in state else "missing" for state in (saved, own)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path} does not fit this version of {type(method).__name__}: "
                f"{name} is {shapes[0]} there and {shapes[1]} here"
            )


def load_method(path: str | Path, expected: type[FusionMethod] = FusionMethod) -> FusionMethod:
    """Build the method a checkpoint belongs to and give it the checkpoint's weights (the averaged ones, if any).

    Args:
        path: A ``.ckpt`` file.
        expected: The class, or a base of it, that the caller can use.

    Raises:
        UserError: If the checkpoint is unreadable, of an unknown or another class, or does not fit its class.
    """
    checkpoint = read_checkpoint(path)
    method = method_of(checkpoint, path)
    if not issubclass(method, expected):
        raise UserError(f"{path} holds a {method.__name__}, but a {expected.__name__} is needed")
    try:
        model = method(**checkpoint["hyper_parameters"])
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} does not fit this version of {method.__name__}: {str(error).splitlines()[0]}"
        ) from error
    check_weights(model, checkpoint["state_dict"], path)
    model.load_state_dict(checkpoint["state_dict"])
    return model


def start_from(method: FusionMethod, path: str | Path) -> None:
    """Give a method that is to be trained the weights of another training, of the same class and shapes.

    Args:
        method: The method.
        path: A ``.ckpt`` file, or the name of a model that ships.

    Raises:
        UserError: If the checkpoint is unreadable, of another class, or of other shapes.
    """
    checkpoint = read_checkpoint(path)
    held, wanted = method_of(checkpoint, path), type(method)
    if held is not wanted:
        raise UserError(f"{path} holds a {held.__name__}, and a {wanted.__name__} cannot start from its weights")
    try:
        check_weights(method, checkpoint["state_dict"], path)
    except UserError as error:
        shaping = {**checkpoint["hyper_parameters"], "optimizer": None, "scheduler": None}
        other = [f"{name}: {value}" for name, value in shaping.items() if value not in (None, method.hparams.get(name))]
        raise UserError(f"{error}; it was trained with {', '.join(other) or 'the same options'}") from error
    method.load_state_dict(checkpoint["state_dict"])
    rank_zero_info(f"{wanted.__name__}: starts from the weights of {path}")


def first_stage(
    owner: FusionMethod, expected: type[Stage], checkpoint: str | None, arguments: Mapping[str, Any] | None
) -> Stage:
    """The trained method that another one stands on: from its checkpoint, or built anew to receive its weights.

    A checkpoint of `owner` holds the weights of both, so `owner` is rebuilt from `arguments`, without the file: its
    hyper-parameters become ``stage1_checkpoint: None`` and ``stage1``, those of the first stage.

    Args:
        owner: The method of stage 2, whose hyper-parameters are saved.
        expected: The class of stage 1.
        checkpoint: A ``.ckpt`` file of that class, to begin training.
        arguments: The arguments of that class, where `owner` comes from its own checkpoint.

    Raises:
        UserError: If there is neither, or the checkpoint is unreadable or of another class.
    """
    if checkpoint is not None:
        stage = load_method(checkpoint, expected)
        assert isinstance(stage, expected)
        rank_zero_info(f"{type(owner).__name__}: stage 1 taken from {checkpoint}")
    elif arguments is not None:
        try:
            stage = expected(**arguments)
        except TypeError as error:
            raise UserError(f"`stage1` must hold arguments of {expected.__name__}: {error}") from error
    else:
        raise UserError(
            f"{type(owner).__name__} needs `stage1_checkpoint`: give the .ckpt file of a trained {expected.__name__}"
        )
    owner.hparams.update(stage1_checkpoint=None, stage1=dict(stage.hparams))
    return stage
