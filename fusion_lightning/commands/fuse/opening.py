"""The method that fuses, from what was typed."""

from collections.abc import Sequence
from pathlib import Path

from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.volumes import is_medical
from fusion_lightning.methods.vocabulary import ready_names
from fusion_lightning.zoo import BEST


def method_name(method: str | None, checkpoint: str | None, files: Sequence[Path]) -> str:
    """What ``--method`` or ``--checkpoint`` names, or what fuses by default, which is said then.

    By default it is the best model that ships; for medical files a rule, as that model never saw any.

    Raises:
        UserError: If both are given.
    """
    if method is not None and checkpoint is not None:
        raise UserError("--method and --checkpoint name two methods: give one of them")
    named = checkpoint or method
    if named is None:
        named = "laplacian" if any(map(is_medical, files[:2])) else BEST
        others = ", ".join(name for name in ready_names() if name != named)
        notice(f"no --method was named, so {named} fuses; others are {others}, or a .ckpt file")
    return named
