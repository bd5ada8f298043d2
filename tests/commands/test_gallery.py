"""The gallery of degradations."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.commands.gallery import gallery
from fusion_lightning.degradations import EFFECTS, SCENARIOS
from fusion_lightning.errors import UserError


def test_the_gallery_shows_every_effect_and_every_scenario(tmp_path: Path) -> None:
    for name, channels in (("a", 1), ("b", 3)):
        image = np.random.default_rng(0).integers(0, 256, (48, 64, channels), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    gallery(str(tmp_path / "out"), str(tmp_path / "a.png"), str(tmp_path / "b.png"), width=32)
    severities = cv2.imread(str(tmp_path / "out" / "severities.png"))
    scenarios = cv2.imread(str(tmp_path / "out" / "scenarios.png"))
    assert severities.shape[0] >= 24 * (len(EFFECTS) - 1)
    assert severities.shape[1] >= 6 * 32
    assert scenarios.shape[0] >= 24 * len(SCENARIOS)


def test_without_a_pair_a_scene_is_drawn(tmp_path: Path) -> None:
    gallery(str(tmp_path), width=64)
    assert (tmp_path / "severities.png").is_file()
    with pytest.raises(UserError, match="given together"):
        gallery(str(tmp_path), source_a="a.png")
