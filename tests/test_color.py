"""Opponent colours; YCbCr is tested where images are fused in it."""

import torch

from fusion_lightning.color import from_opponent, to_opponent


def test_opponent_colours_are_an_orthonormal_turn() -> None:
    image = torch.randn(2, 3, 4, 5)
    turned = to_opponent(image)
    torch.testing.assert_close(turned.square().sum(dim=1), image.square().sum(dim=1))
    torch.testing.assert_close(from_opponent(turned), image)


def test_grey_has_no_opponent_colours_whatever_the_precision() -> None:
    grey = torch.rand(1, 1, 4, 5).expand(-1, 3, -1, -1)
    with torch.autocast("cpu", torch.bfloat16):
        turned = to_opponent(grey)
        back = from_opponent(turned)
    torch.testing.assert_close(turned[:, :1], 3**0.5 * grey[:, :1])
    assert turned[:, 1:].abs().max() < 1e-6
    torch.testing.assert_close(back, grey)
