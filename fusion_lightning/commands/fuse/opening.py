"""The method that fuses, from what was typed."""

from pathlib import Path
from typing import cast

from fusion_lightning.errors import UserError, notice
from fusion_lightning.methods import FusionMethod, Specification, build_method, load_method
from fusion_lightning.methods.vocabulary import DEFAULT, SHORT_NAMES, spelled_out


def method_name(method: str | None, checkpoint: str | None) -> str:
    """What ``--method`` or ``--checkpoint`` names, or the default, which is said then.

    Raises:
        UserError: If both are given.
    """
    if method is not None and checkpoint is not None:
        raise UserError("--method and --checkpoint name two methods: give one of them")
    if method is None and checkpoint is None:
        notice(f"no --method was named, so {DEFAULT} fuses; others are {SHORT_NAMES}, or a .ckpt file")
    return checkpoint or method or DEFAULT


def open_method(name: str) -> FusionMethod:
    """The method of a name as ``--method`` takes it, in evaluation.

    Raises:
        UserError: If there is no such method, or it has to be trained first.
    """
    specification = spelled_out(name)
    if isinstance(specification, str) and (Path(specification).exists() or Path(specification).suffix == ".ckpt"):
        return load_method(specification).eval()
    return build_method(cast(Specification, specification))
