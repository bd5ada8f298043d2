"""Images of two sizes brought to one."""

import torch

from fusion_lightning.imaging.resize import same_size


def test_same_size_enlarges_the_smaller_image() -> None:
    small, large = same_size(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 16, 24))
    assert small.shape[-2:] == large.shape[-2:] == (16, 24)
