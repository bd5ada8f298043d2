"""Images of two sizes brought to one."""

import numpy as np
import pytest
import torch

from fusion_lightning.degradations import degrade, parse
from fusion_lightning.imaging.io import resize_image
from fusion_lightning.imaging.resize import at_least, enlarge, same_size


def test_same_size_enlarges_the_smaller_image() -> None:
    small, large = same_size(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 16, 24))
    assert small.shape[-2:] == large.shape[-2:] == (16, 24)


@pytest.mark.parametrize("size", [(90, 61), (88, 64), (89, 63)])
@pytest.mark.parametrize("method", ["area", "cubic"])
def test_a_slope_that_was_made_smaller_is_enlarged_to_itself(method: str, size: tuple[int, int]) -> None:
    down, right = np.meshgrid(*(np.linspace(0.1, 0.5, 100, dtype=np.float32)[:side] for side in size), indexing="ij")
    slope = (down + right)[..., None]
    small, _ = degrade(slope, parse(f"downsample(4, method={method})"), np.random.default_rng(0))
    again, _ = degrade(slope, parse(f"downsample(4, method={method}, up=true)"), np.random.default_rng(0))
    enlarged = enlarge(torch.from_numpy(small).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    a_pixel = 0.4 / 99
    for image in (again, resize_image(small, size), enlarged):
        assert image.shape == slope.shape
        # this cubic (a = -0.75) follows a slope to a third of a pixel; stretched it would be up to two pixels off
        np.testing.assert_allclose(image[8:-8, 8:-8], slope[8:-8, 8:-8], atol=0.4 * a_pixel)


def test_other_ratios_fill_the_size() -> None:
    assert enlarge(torch.rand(1, 1, 64, 48), (96, 72)).shape == (1, 1, 96, 72)
    assert resize_image(np.zeros((64, 48, 3), np.uint8), (100, 70)).shape == (100, 70, 3)


def test_small_images_are_continued_by_their_mirror_images() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    continued = at_least(image, 5)
    assert continued.shape == (1, 1, 5, 5)
    assert continued[0, 0, 0].tolist() == [0, 1, 2, 2, 1]
    assert continued[0, 0, :, 0].tolist() == [0, 3, 3, 0, 0]
    assert torch.equal(at_least(image, 2), image)
    assert at_least(torch.ones(2, 3, 1, 1), 64).shape == (2, 3, 64, 64)
