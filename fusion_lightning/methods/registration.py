"""Registration: brings source a into the frame of source b; it restores, and does not fuse."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusion_lightning.batch import Controls, FusionBatch, FusionOutput, sources
from fusion_lightning.degradations import true_warps
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.imaging.registration import AGREE, CORRELATION, align, correlation, edges, unfit
from fusion_lightning.methods.base import FusionMethod
from fusion_lightning.networks.registration import COARSE, RegistrationNetwork, RegistrationSize, bending_energy
from fusion_lightning.text import printable
from fusion_lightning.zoo import FOR_SCANS

_HINT = f"give {FOR_SCANS}"


class Registration(FusionMethod):
    """Base of registrations: subclasses implement `find_warps`, and say which warps they do not trust."""

    def find_warps(self, a: Tensor, b: Tensor) -> tuple[Tensor, list[str | None]]:
        """Where the pixels of b's frame lie in a, from sources (B, 1 or 3, H, W) of one size.

        Returns:
            Warps (B, 2, H, W), the identity where none is trusted, and why, as the end of a sentence, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it registers")

    def fuse(self, batch: FusionBatch, controls: Controls | None = None) -> FusionOutput:
        """Bring a into the frame of b; there is no ``fused``. A pair that is left as it is is named.

        Raises:
            UserError: If controls are given: there are none.
        """
        self.check_no_controls(controls)
        a, b = sources(batch)
        found, reasons = self.find_warps(a, b)
        for name, reason in zip(batch["name"], reasons, strict=True):
            if reason is not None:
                notice(f"{printable(name)}: source a is not aligned: {reason}")
        return FusionOutput(restored_a=warps.sample(a, found.to(a)), restored_b=b, warp_a=found)


class ClassicalRegistration(Registration):
    """Registration without training: the affine map under which normalised edges correlate best, if it can be trusted.

    A source a in colour (PET, SPECT) has no edges of that kind and is left as it is, and so are scans, of which each
    shows the edges of other tissue, and images that are flat, small, or of different scenes.

    Args:
        **options: Those of `FusionMethod`.
    """

    def find_warps(self, a: Tensor, b: Tensor) -> tuple[Tensor, list[str | None]]:
        """Register pair after pair."""
        size = (b.shape[-2], b.shape[-1])
        if a.shape[1] == 3:
            still = warps.identity(size, b.float()).expand(len(b), -1, -1, -1)
            reason = f"it is in colour, as PET and SPECT are: {_HINT}, or swap the sources if cameras took them"
            return still, [reason] * len(b)
        lumas = (rgb_to_luma(image)[:, 0].float().cpu().numpy() for image in (a, b))
        found = [align(*pair) for pair in zip(*lumas, strict=True)]
        matrices = torch.from_numpy(np.stack([one.matrix for one in found])).float()
        reasons = [f"{one.refused}: {_HINT}" if one.scans else one.refused for one in found]
        return warps.from_affine(matrices.to(b.device), size), reasons


class RegistrationNet(Registration):
    """A network that registers: an affine warp, and a bend on top of it.

    Trained on aligned pairs whose source a is moved by the effect ``misalign``, best among other effects.

    Args:
        size: Size of the network: ``tiny``, ``small`` or ``base``.
        matching: Weight of the loss of the first matching.
        smoothness: Weight of the bend's bending energy.
        border: How many pixels at the border of a training crop are cut off before the network sees it: there the
            effect repeats the last pixels, which a camera does not.
        reduction: How many times smaller the network sees the pair, by means of blocks.
        looks: How often it looks at a pair, each time at what came out before; after a single look another one only
            checks it.
        least: Mean motion in pixels below which a pair is left as it is: a map that is wrong by d costs a pair that it
            moves by 2 d - 1 a pixel at most.
        **options: Those of `FusionMethod`.

    Raises:
        UserError: If `looks` is less than 1.
    """

    def __init__(
        self,
        size: RegistrationSize = "small",
        matching: float = 0.3,
        smoothness: float = 0.1,
        border: int = 32,
        reduction: int = 2,
        looks: int = 3,
        least: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if looks < 1:
            raise UserError(f"`looks` must be at least 1, but got {looks}")
        self.matching, self.smoothness, self.border = matching, smoothness, border
        self.reduction, self.looks, self.least = reduction, looks, least
        self.network = RegistrationNetwork(size)

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        """Mean distance of both warps to the known one in cells of 8 pixels, where that stays in the image."""
        a, b = (rgb_to_luma(image) for image in sources(batch))
        known = true_warps(batch)
        cut = max(min(self.border, (min(a.shape[-2:]) - 32 * self.reduction) // 2), 0)
        inner = (..., slice(cut, a.shape[-2] - cut), slice(cut, a.shape[-1] - cut))
        a, b, known = self._reduced(a[inner]), self._reduced(b[inner]), self._reduced_warp(known[inner] - cut)
        found = self.network(a, b)
        valid = warps.inside(known, (a.shape[-2], a.shape[-1]))
        distances = [
            _mean_where((warp - known).norm(dim=1, keepdim=True), valid) for warp in (found.affine, found.warp)
        ]
        matching = matching_loss(found.matches, known)
        bending = bending_energy(found.bend)
        loss = (distances[0] + distances[1]) / 8 + self.matching * matching + self.smoothness * bending
        losses = {"loss": loss, "affine": distances[0], "warp": distances[1], "matching": matching, "bending": bending}
        return self.log_losses(losses, batch)

    def find_warps(self, a: Tensor, b: Tensor) -> tuple[Tensor, list[str | None]]:
        """Look a few times, each time at what came out before.

        Trusted if the last look moves little, and edges agree where source a is grey and was moved far.
        """
        lumas = rgb_to_luma(a), rgb_to_luma(b)
        still = warps.identity((b.shape[-2], b.shape[-1]), b.float())
        seen = self.refine(*lumas, times=max(self.looks, 2))  # a single look is checked by another
        (found, _), (_, last) = seen[self.looks - 1], seen[-1]
        moved, unsure = ((warp - still).norm(dim=1).mean(dim=(-2, -1)).tolist() for warp in (found, last))
        pixels = ([one[0].float().cpu().numpy() for one in luma] for luma in lumas)
        reasons: list[str | None] = []
        for one, other, warp, far, rest in zip(*pixels, found, moved, unsure, strict=True):
            reason = unfit(one, other)
            if reason is None and not rest <= AGREE:
                reason = f"the last look at it still moved it by {rest:.1f} pixels"
            if reason is None and far < self.least:
                reason = f"it would move by {far:.1f} pixels only, which may be the network's own error"
            if reason is None and a.shape[1] == 1 and far > AGREE and not _agree(one, other, warp.cpu()):
                reason = "its edges agree too little with those of source b"
            reasons.append(reason)
        trusted = torch.tensor([reason is None for reason in reasons], device=found.device)
        return torch.where(trusted[:, None, None, None], found, still), reasons

    def refine(self, a: Tensor, b: Tensor, times: int) -> list[tuple[Tensor, Tensor]]:
        """Look at lumas (B, 1, H, W) of one size, each time at what came out before, trusted or not.

        Returns:
            For every look the warp (B, 2, H, W) that all looks so far make, and the one that this look found.
        """
        found = warps.identity((b.shape[-2], b.shape[-1]), b.float()).expand(len(b), -1, -1, -1)
        seen = []
        for _ in range(times):
            step = self._look(warps.sample(a, found.to(a)), b)
            found = warps.compose(found, step)
            seen.append((found, step))
        return seen

    def _look(self, a: Tensor, b: Tensor) -> Tensor:
        """The network's warp (B, 2, H, W) for lumas of one size."""
        small = self.network(self._reduced(a), self._reduced(b)).warp
        return self._enlarged(small, (b.shape[-2], b.shape[-1]))

    def _reduced(self, image: Tensor) -> Tensor:
        """An image as small as the network sees it: means of blocks, those at the border of what is there."""
        return F.avg_pool2d(image, self.reduction, ceil_mode=True) if self.reduction > 1 else image

    def _reduced_warp(self, warp: Tensor) -> Tensor:
        """A warp between reduced images, in their pixels."""
        return (self._reduced(warp) - (self.reduction - 1) / 2) / self.reduction

    def _enlarged(self, warp: Tensor, size: tuple[int, int]) -> Tensor:
        """A warp between reduced images as one between those of a size, in their pixels."""
        small = (warp.shape[-2], warp.shape[-1])
        motion = self.reduction * (warp - warps.identity(small, warp))
        still = warps.identity(size, warp)
        places = (still - (self.reduction - 1) / 2) / self.reduction
        return still + warps.sample(motion, places.expand(len(warp), -1, -1, -1))


def _agree(a: np.ndarray, b: np.ndarray, warp: Tensor) -> bool:
    """Whether the edges of grey images (H, W) agree as much under a warp (2, H, W) as a classical registration asks."""
    moved = warps.sample(torch.from_numpy(edges(a))[None, None], warp[None])[0, 0].numpy()
    seen = warps.inside(warp[None], b.shape)[0, 0].numpy()
    return correlation(moved[seen], edges(b)[seen]) >= CORRELATION if seen.mean() >= 0.5 else False


def matching_loss(matches: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of matches (B, 81, H/8, W/8) with the cell of a that the known warp (B, 2, H, W) leads to.

    Cells that lead further than the network looks, or out of the image, do not count.
    """
    height, width = matches.shape[-2:]
    centres = F.avg_pool2d(known, 8, ceil_mode=True)
    cells = ((centres - 3.5) / 8).round() - warps.identity((height, width), known)
    right, down = cells.unbind(dim=1)
    valid = (cells.abs() <= COARSE).all(dim=1) & warps.inside((centres - 3.5) / 8, (height, width))[:, 0]
    target = ((down + COARSE) * (2 * COARSE + 1) + right + COARSE).long().masked_fill(~valid, 0)
    entropy = F.cross_entropy(matches, target, reduction="none")
    return _mean_where(entropy, valid)


def _mean_where(values: Tensor, valid: Tensor) -> Tensor:
    """The mean of the values that count; 0 if none does."""
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)
