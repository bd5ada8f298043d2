"""Drawn scenes are aligned, reproducible, and hold what only one of the two modalities shows."""

import numpy as np
import pytest

from fusion_lightning.datamodules.synthetic import SyntheticPairs
from fusion_lightning.datamodules.synthetic.phantoms import render_slice
from fusion_lightning.datamodules.synthetic.scenes import render_scene


def _grey(image: np.ndarray) -> np.ndarray:
    return image.astype(float) @ (0.299, 0.587, 0.114)


@pytest.mark.parametrize("size", [64, 256, 600])
def test_a_scene_is_the_same_for_the_same_seed_and_differs_for_another(size: int) -> None:
    one, again, other = render_scene(7, size), render_scene(7, size), render_scene(8, size)
    assert (one.visible.shape, one.infrared.shape) == ((size, size, 3), (size, size, 1))
    assert one.visible.dtype == one.infrared.dtype == np.uint8
    np.testing.assert_array_equal(one.visible, again.visible)
    np.testing.assert_array_equal(one.infrared, again.infrared)
    assert np.abs(one.visible.astype(float) - other.visible).mean() > 5
    slices = render_slice(7, size), render_slice(7, size)
    assert (slices[0].functional.shape, slices[0].anatomical.shape) == ((size, size, 3), (size, size, 1))
    np.testing.assert_array_equal(slices[0].functional, slices[1].functional)
    np.testing.assert_array_equal(slices[0].anatomical, slices[1].anatomical)


def test_people_are_hot_and_where_their_masks_say() -> None:
    scenes = [render_scene(seed) for seed in range(8)]
    people = [(scene, item) for scene in scenes for item in scene.objects if item.label == "person"]
    assert len(people) >= 8
    for scene, person in people:
        left, top, right, bottom = person.box
        assert person.mask.sum() == person.mask[top:bottom, left:right].sum()
        assert person.mask[top].any()
        assert person.mask[bottom - 1].any()
        assert person.mask[:, left].any()
        assert person.mask[:, right - 1].any()
        assert np.median(scene.infrared[..., 0][person.mask]) > 140 > np.median(scene.infrared)


def test_objects_do_not_share_pixels() -> None:
    for seed in range(8):
        masks = [item.mask for item in render_scene(seed).objects]
        if masks:
            assert np.stack(masks).sum(0).max() == 1


def test_colour_and_texture_are_in_the_visible_alone() -> None:
    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image[160:], axis=1)).mean())

    scenes = [render_scene(seed) for seed in range(8)]
    visible = np.mean([detail(_grey(scene.visible)) for scene in scenes])
    infrared = np.mean([detail(scene.infrared[..., 0].astype(float)) for scene in scenes])
    assert visible > 2 * infrared
    assert np.mean([np.ptp(scene.visible.astype(int), axis=2).mean() for scene in scenes]) > 10


def test_the_average_loses_the_contrast_of_hot_things() -> None:
    """What stands out by 100 levels in the infrared stands out by hardly more than half of that in the average."""
    kept = []
    for scene in (render_scene(seed) for seed in range(12)):
        for item in (item for item in scene.objects if item.label == "person" and item.mask.sum() > 100):
            left, top, right, bottom = item.box
            around = np.zeros_like(item.mask)
            around[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = True
            around &= ~item.mask
            infrared, visible = scene.infrared[..., 0].astype(float), _grey(scene.visible)
            average = (infrared + visible) / 2
            kept.append(
                (average[item.mask].mean() - average[around].mean())
                / (infrared[item.mask].mean() - infrared[around].mean())
            )
    assert len(kept) > 10
    assert np.median(kept) < 0.6


def test_lesions_are_active_where_the_mask_says() -> None:
    slices = [render_slice(seed) for seed in range(12)]
    lesions = [(piece, item) for piece in slices for item in piece.objects]
    assert 2 <= len(lesions) <= 10
    for piece, lesion in lesions:
        # hot is red in the palette, cold is blue
        red = piece.functional[..., 0].astype(int) - piece.functional[..., 2]
        assert np.percentile(red[lesion.mask], 90) > np.median(red[piece.anatomical[..., 0] > 60])


def test_no_scene_is_in_two_splits() -> None:
    splits = [SyntheticPairs("medical", split, 3, 32) for split in ("train", "val", "test")]
    pictures = [pair.b.tobytes() for split in splits for pair in split]
    assert len(set(pictures)) == len(pictures) == 9
