"""Synthetic pairs: scenes rendered from a seed, no files needed."""

from typing import Literal

import numpy as np

from fusion_lightning.datamodules.pairing import SPLITS
from fusion_lightning.datamodules.pairs import Pair
from fusion_lightning.datamodules.synthetic.phantoms import render_slice
from fusion_lightning.datamodules.synthetic.scenes import render_scene

Kind = Literal["street", "medical"]


class SyntheticPairs:
    """Aligned pairs rendered on demand, the same for the same arguments.

    Args:
        kind: ``street`` for infrared and visible scenes, ``medical`` for functional and anatomical slices.
        split: ``train``, ``val`` or ``test``: no scene is in two of them.
        length: Number of pairs.
        size: Side of the images in pixels.
        seed: Of all scenes.
    """

    def __init__(self, kind: Kind, split: str, length: int, size: int = 256, seed: int = 0) -> None:
        self.kind = kind
        self.split = split
        self.length = length
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        """Render one pair."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        path = np.random.SeedSequence(self.seed, spawn_key=(SPLITS.index(self.split), index))
        seed = int(path.generate_state(1)[0])
        name = f"{self.kind}_{index:05d}"
        if self.kind == "medical":
            piece = render_slice(seed, self.size)
            return Pair(name, piece.functional, piece.anatomical)
        scene = render_scene(seed, self.size)
        return Pair(name, scene.infrared, scene.visible)
