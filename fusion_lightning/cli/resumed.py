"""What ``--ckpt_path`` says of a method: its weights and hyper-parameters."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod, check_weights, find_method, method_of, read_checkpoint


class Resumed(NamedTuple):
    """A method as its checkpoint holds it.

    Attributes:
        path: Where the checkpoint is, as it was asked for.
        weights: The method's state.
        hyper_parameters: What its constructor gets, but for what is typed.
        typed: Names of what is typed.
    """

    path: str
    weights: dict[str, Tensor]
    hyper_parameters: dict[str, Any]
    typed: Collection[str]

    def check(self, method: FusionMethod) -> None:
        """Refuse a method that the weights do not fit.

        Raises:
            UserError: If they do not; it names what was typed.
        """
        try:
            check_weights(method, self.weights, self.path)
        except UserError as error:
            typed = sorted({*self.typed} - {"optimizer", "scheduler"})
            hint = f"; it was saved with another {' or '.join(typed)}, which can be left out" if typed else ""
            raise UserError(f"{error}{hint}") from error


def read_resumed(path: str, class_path: str, configured: Mapping[str, Any], typed: Collection[str]) -> Resumed:
    """Read a checkpoint of the class that is asked for, and say where it overrules the configuration.

    Args:
        path: A checkpoint or the name of a shipped model.
        class_path: The method that is asked for.
        configured: Its arguments in the configuration.
        typed: Names of those that were typed, which count more than what the checkpoint says.

    Raises:
        UserError: If it cannot be read, or holds another method.
    """
    checkpoint = read_checkpoint(path)
    held = method_of(checkpoint, path)
    if held is not find_method(class_path):
        raise UserError(
            f"--ckpt_path {path} holds a {held.__name__}, but the configuration asks for "
            f"{class_path.rsplit('.', 1)[-1]}: --ckpt_path continues or scores the same run; "
            "--start_from begins another from weights"
        )
    saved = {
        name: value
        for name, value in checkpoint["hyper_parameters"].items()
        if name not in typed or name == "stage1_checkpoint"  # what a run begins with is in its checkpoint
    }
    if overruled := _overruled(held, configured, saved):
        rank_zero_info(f"taken from the checkpoint, not from the configuration: {', '.join(overruled)}")
    return Resumed(path, checkpoint["state_dict"], saved, typed)


def _overruled(method: type[FusionMethod], configured: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    """What a configuration says of a method, and its checkpoint says otherwise; defaults are not said by anybody."""
    defaults: dict[str, Any] = {}
    for base in reversed(method.__mro__):
        parameters = inspect.signature(base.__init__).parameters if "__init__" in vars(base) else {}  # type: ignore[misc]
        defaults |= {name: parameter.default for name, parameter in parameters.items()}
    return [
        f"{name} {value} (not {configured[name]})"
        for name, value in saved.items()
        if name in configured and _as_plain(configured[name]) not in (_as_plain(value), _as_plain(defaults.get(name)))
    ]


def _as_plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
