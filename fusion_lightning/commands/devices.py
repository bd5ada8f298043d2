"""The device a command computes on."""

import torch

from fusion_lightning.errors import UserError


def find_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU when there is one.

    Raises:
        UserError: If it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} is not there: use cpu, cuda or auto") from error
