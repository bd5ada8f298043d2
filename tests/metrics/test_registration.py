"""Scores of registrations against closed forms."""

import math

import pytest
import torch

from fusion_lightning.imaging import warps
from fusion_lightning.metrics import EPE
from fusion_lightning.metrics.functional import epe, inverse_consistency, landmark_error, mi_gain

SIZE = (60, 80)


def _turn(degrees: float) -> torch.Tensor:
    turn, c = math.radians(degrees), torch.tensor([39.5, 29.5])
    linear = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return warps.from_affine(torch.cat((linear, (c - linear @ c)[:, None]), dim=1)[None], SIZE)


def test_the_true_warp_has_no_error_and_the_identity_that_of_the_turn() -> None:
    known, still = _turn(3), warps.identity(SIZE, torch.zeros(()))
    assert epe(known, known).item() == 0
    # a turn by φ moves a point at distance r by 2 r sin(φ / 2)
    distance = (still - torch.tensor([39.5, 29.5]).view(2, 1, 1)).norm(dim=1)
    inside = warps.inside(known, SIZE)[:, 0]
    expected = 2 * math.sin(math.radians(1.5)) * distance[inside].mean()
    assert epe(still, known).item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_lies_outside_does_not_count() -> None:
    still = warps.identity(SIZE, torch.zeros(()))
    known = still + torch.tensor([20.0, 0.0]).view(2, 1, 1)
    found = known.clone()
    found[..., 60:] = 1e6
    assert epe(found, known).item() == 0
    assert epe(still, still + 1000).isnan().all()


def test_there_and_back() -> None:
    assert inverse_consistency(_turn(5), _turn(-5)).item() < 1e-3
    still = warps.identity(SIZE, torch.zeros(()))
    assert inverse_consistency(still + 2, still).item() == pytest.approx(math.sqrt(8), rel=1e-4)


def test_landmarks_are_looked_up_between_pixels() -> None:
    still = warps.identity(SIZE, torch.zeros(()))
    fixed = torch.tensor([[10.25, 20.5], [30.0, 40.75]])
    assert landmark_error(still, fixed, fixed).item() == pytest.approx(0, abs=1e-4)
    assert landmark_error(still + 3, fixed, fixed).item() == pytest.approx(math.sqrt(18), rel=1e-4)


def test_aligning_gains_information() -> None:
    b = torch.rand(1, 1, 16, 16).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
    a = (1 - b).roll(5, dims=-1)
    assert mi_gain(1 - b, a, b).item() > 0.5
    assert mi_gain(a, a, b).item() == 0


def test_the_class_is_the_mean_over_pairs() -> None:
    metric = EPE()
    still = warps.identity(SIZE, torch.zeros(()))
    for shift in (1.0, 3.0):
        metric.update(still + torch.tensor([shift, 0.0]).view(2, 1, 1), still)
    assert metric.compute().item() == pytest.approx(2, rel=1e-5)
