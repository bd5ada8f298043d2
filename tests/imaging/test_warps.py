"""Warps against closed forms."""

import math

import pytest
import torch

from fusion_lightning.imaging import warps

SIZE = (40, 56)


def _turn(degrees: float, centre: tuple[float, float]) -> torch.Tensor:
    turn = math.radians(degrees)
    linear = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    c = torch.tensor(centre)
    return torch.cat((linear, (c - linear @ c)[:, None]), dim=1)[None]


def test_a_whole_shift_is_a_roll() -> None:
    image = torch.rand(1, 3, *SIZE)
    shift = torch.tensor([[[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]]])
    moved = warps.sample(image, warps.from_affine(shift, SIZE))
    rolled = image.roll((2, -3), dims=(-2, -1))
    torch.testing.assert_close(moved[..., 2:, :-3], rolled[..., 2:, :-3], atol=1e-4, rtol=0)


def test_half_a_pixel_is_the_mean_of_two_and_the_border_is_repeated() -> None:
    image = torch.rand(1, 1, 4, 6)
    moved = warps.sample(image, warps.identity((4, 6), image) + torch.tensor([0.5, 0.0]).view(2, 1, 1))
    torch.testing.assert_close(moved[..., :-1], (image[..., :-1] + image[..., 1:]) / 2)
    torch.testing.assert_close(moved[..., -1], image[..., -1])


def test_turns_compose_and_invert() -> None:
    centre = (27.5, 19.5)
    there, back, twice = (warps.from_affine(_turn(angle, centre), SIZE) for angle in (7.0, -7.0, 14.0))
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    torch.testing.assert_close(warps.compose(there, there)[inner], twice[inner], atol=1e-3, rtol=0)
    torch.testing.assert_close(warps.invert(there)[inner], back[inner], atol=1e-3, rtol=0)


def test_inside_counts_the_pixels_that_are_there() -> None:
    shift = torch.tensor([[[1.0, 0.0, 3.0], [0.0, 1.0, 0.0]]])
    inside = warps.inside(warps.from_affine(shift, SIZE), SIZE)
    assert inside.sum() == SIZE[0] * (SIZE[1] - 3)
    assert not inside[..., -3:].any()


@pytest.mark.parametrize("size", [(1, 1), (1, 7)])
def test_the_smallest_images_have_warps(size: tuple[int, int]) -> None:
    image = torch.rand(1, 1, *size)
    still = warps.identity(size, image)
    torch.testing.assert_close(warps.sample(image, still), image)
    torch.testing.assert_close(warps.invert(still), still)
