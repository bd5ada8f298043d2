"""The registration that ``--align`` names, and what it makes of a pair."""

from pathlib import Path

import torch

from fusion_lightning.batch import FusionBatch, clean, sources, to_device
from fusion_lightning.errors import UserError, nearest, notice
from fusion_lightning.imaging import warps
from fusion_lightning.methods import Registration, build_method, find_method
from fusion_lightning.zoo import models

CLASSICAL = "classical"
"""The registration that needs no training, and aligns when none is named: `docs/registration.md` says why."""


def registration_name(align: bool | str) -> str | None:
    """What ``--align`` names; bare it names the classical registration, which is said. None where nothing is asked."""
    if align is True:
        notice(f"--align names no registration, so {CLASSICAL} aligns")
        return CLASSICAL
    return align or None


def open_registration(name: str) -> Registration:
    """The registration of a name: ``classical``, or what `build_method` makes of it.

    Raises:
        UserError: If there is none of that name, or it does not register.
    """
    names = [CLASSICAL, *(model.name for model in models().values() if model.task == "register")]
    aligns = f"{', '.join(names)} or the .ckpt file of a RegistrationNet"
    if not (name in names or name.endswith(".ckpt") or Path(name).is_file() or find_method(name)):
        meant = f"{nearest(name, names)} it takes {aligns}".lstrip()
        raise UserError(f"--align {name} is no registration: {meant}")
    registration = build_method("ClassicalRegistration" if name == CLASSICAL else name)
    if not isinstance(registration, Registration):
        raise UserError(f"--align {name} is a {type(registration).__name__}, which does not register: give {aligns}")
    return registration


@torch.inference_mode()
def aligned(registration: Registration, batch: FusionBatch) -> tuple[FusionBatch, str]:
    """A pair (a batch of one) whose source a lies in the frame of b, and how far its pixels moved, or why not."""
    there = to_device(batch, registration.device)
    a, b = sources(there)
    warp, (refused,) = registration.find_warps(a, b)
    delivered, known = (warps.sample(image, warp.to(image)).cpu() for image in (a, clean(there)[0]))
    moved = (warp - warps.identity((warp.shape[-2], warp.shape[-1]), warp)).norm(dim=1).mean()
    remark = f"source a is not aligned: {refused}" if refused else f"source a moved by {moved:.1f} pixels on average"
    return FusionBatch(**{**batch, "source_a": delivered, "clean_a": known}), remark
