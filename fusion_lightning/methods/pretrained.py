"""Reading weight files that other projects have published."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fusion_lightning.errors import UserError


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU; nothing in the file is executed.

    Names saved from a wrapped network (``module.``) lose that part.

    Raises:
        UserError: If the file is missing, damaged, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weight file {path}: check the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as weights (it is damaged, or holds more than tensors): download it again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} is not a state dict (names and tensors): give a file of weights alone")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def load_strict(network: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load weights into a network, all of them.

    Raises:
        UserError: If names or shapes differ.
    """
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} does not fit {type(network).__name__}: {reason}") from error
