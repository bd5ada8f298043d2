"""The registration that ``--align`` names, and what it makes of a pair."""

from typing import Literal

import torch

from fusion_lightning.batch import FusionBatch, to_device
from fusion_lightning.errors import UserError
from fusion_lightning.imaging import warps
from fusion_lightning.methods import ClassicalRegistration, FusionMethod, RegistrationNet, load_method
from fusion_lightning.text import printable

CLASSICAL: Literal["classical"] = "classical"
"""The registration that needs no training."""


def open_registration(name: str) -> FusionMethod:
    """The registration of a name: ``classical``, or the checkpoint of a `RegistrationNet`.

    Raises:
        UserError: If it is neither.
    """
    if name == CLASSICAL:
        return ClassicalRegistration().eval()
    if not name.endswith(".ckpt"):
        raise UserError(f"--align must be `{CLASSICAL}` or the .ckpt file of a RegistrationNet, but got {name!r}")
    return load_method(name, RegistrationNet).eval()


@torch.inference_mode()
def aligned(registration: FusionMethod, batch: FusionBatch) -> FusionBatch:
    """A pair (a batch of one) whose source a lies in the frame of b; says how far its pixels moved."""
    output = registration.fuse(to_device(batch, registration.device))
    warp, image = output["warp_a"], output["restored_a"].cpu()
    moved = (warp - warps.identity((warp.shape[-2], warp.shape[-1]), warp)).norm(dim=1).mean()
    print(f"{printable(batch['name'][0])}: source a moved by {moved:.1f} pixels on average")
    return FusionBatch(**{**batch, "source_a": image, "clean_a": image})
