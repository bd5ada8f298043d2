"""Loads weight files that other projects have published."""

from collections.abc import Collection, Mapping
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
    own = network.state_dict()
    for name in (*state, *own):
        there, here = (str(tuple(held[name].shape)) if name in held else "missing" for held in (state, own))
        if there != here:
            raise UserError(
                f"{path} does not fit {type(network).__name__}: {name} is {there} there and {here} here "
                "(another network's file, perhaps)"
            )
    network.load_state_dict(state)


def load_published(
    network: nn.Module, path: str | Path, names: Mapping[str, str], unused: Collection[str] = ()
) -> None:
    """Load a weight file that others have published into a network, all of it.

    Args:
        network: The network.
        path: The file.
        names: Names of layers, or of single tensors, in the file, and what the network calls them.
        unused: Layers of the file that the network has no use for.

    Raises:
        UserError: If the file cannot be read, or is another network's.
    """
    state = {}
    for name, value in read_weights(path).items():
        layer, _, kind = name.rpartition(".")
        if layer not in unused:
            state[names.get(name) or f"{names.get(layer, layer)}.{kind}"] = value
    load_strict(network, state, path)
