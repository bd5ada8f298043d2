"""Images of two sizes brought to one."""

import torch

from fusion_lightning.imaging.resize import at_least, same_size


def test_same_size_enlarges_the_smaller_image() -> None:
    small, large = same_size(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 16, 24))
    assert small.shape[-2:] == large.shape[-2:] == (16, 24)


def test_small_images_are_continued_by_their_mirror_images() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    continued = at_least(image, 5)
    assert continued.shape == (1, 1, 5, 5)
    assert continued[0, 0, 0].tolist() == [0, 1, 2, 2, 1]
    assert continued[0, 0, :, 0].tolist() == [0, 3, 3, 0, 0]
    assert torch.equal(at_least(image, 2), image)
    assert at_least(torch.ones(2, 3, 1, 1), 64).shape == (2, 3, 64, 64)
