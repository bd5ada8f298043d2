"""The method that fuses, from what was typed."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from fusion_lightning.batch import Controls
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.scans import are_scans
from fusion_lightning.methods import Estimator, FusionMethod, Registration, build_method
from fusion_lightning.methods.vocabulary import ready_names
from fusion_lightning.zoo import BEST


def method_name(method: str | None, checkpoint: str | None, files: Sequence[Path]) -> str:
    """What ``--method`` or ``--checkpoint`` names, or what fuses by default, which is said then.

    By default it is the best model that ships; for scans a rule, as that model never saw any.

    Raises:
        UserError: If both are given, or an image cannot be read.
    """
    if method is not None and checkpoint is not None:
        raise UserError("--method and --checkpoint name two methods: give one of them")
    named = checkpoint or method
    if named is None:
        scans = are_scans(files)
        named = "laplacian" if scans else BEST
        others = ", ".join(name for name in ready_names() if name != named)
        notice(
            f"no --method was named, so {named} fuses{' scans' if scans else ''}; others are {others}, or a .ckpt file"
        )
    return named


def open_method(name: str) -> FusionMethod:
    """The method of a name: what `build_method` makes of it; one that restores and does not fuse is one, too.

    Raises:
        UserError: If there is none of that name, or it only looks at images: an estimator, or a registration.
    """
    method = build_method(name)
    for kind, does, option in (
        (Estimator, "says what is wrong with images", "`--degradation-a auto --estimator"),
        (Registration, "brings source a into the frame of b", "`--align"),
    ):
        if isinstance(method, kind):
            raise UserError(f"{name} is a {type(method).__name__}, which {does} and fuses none: give {option} {name}`")
    return method


def check_controls(method: FusionMethod, controls: Controls) -> None:
    """Refuse controls that a method does not have, before anything is read.

    Raises:
        UserError: If one differs from its neutral value.
    """
    lacking = [one.name for one in fields(Controls) if one.name not in method.controls]
    given = [f"--{name.replace('_', '-')}" for name in lacking if getattr(controls, name) != getattr(Controls, name)]
    if given:
        it = "it" if len(given) == 1 else "them"
        raise UserError(f"{type(method).__name__} has no {' and no '.join(given)}: leave {it} out")
