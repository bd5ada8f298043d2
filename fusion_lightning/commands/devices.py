"""The device a command computes on, and the number type its networks run in."""

from typing import Literal

import torch

from fusion_lightning.errors import UserError, check_choice

Precision = Literal["auto", "fp32", "bf16"]


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


def runs_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether networks run in bfloat16; ``auto`` says yes where the device multiplies it natively.

    Elsewhere bfloat16 is emulated, and slower than float32.

    Raises:
        UserError: If there is no such precision.
    """
    check_choice("precision", precision, Precision)
    return precision == "bf16" or (precision == "auto" and _multiplies_bf16(device))


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # from Ampere on
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
