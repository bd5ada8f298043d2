"""Colour scores, against the published test data of CIEDE2000 and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.metrics import METRICS
from fusion_lightning.metrics.functional.color import ciede2000, delta_e00, hue, rgb_to_lab, saturation

# Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", table 1: L1 a1 b1 L2 a2 b2 and the difference
SHARMA = """
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def _colored(size: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_ciede2000_equals_its_published_test_data() -> None:
    table = np.loadtxt(SHARMA.strip().splitlines())
    first, second, expected = torch.tensor(table[:, :3].T), torch.tensor(table[:, 3:6].T), table[:, 6]
    np.testing.assert_allclose(delta_e00(first, second).numpy(), expected, atol=5.1e-5)
    np.testing.assert_allclose(delta_e00(second, first).numpy(), expected, atol=5.1e-5)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # the primaries under D65, as published in many tables, to their two digits
        ((1, 1, 1), (100.0, 0.0, 0.0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_the_primaries(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    torch.testing.assert_close(rgb_to_lab(torch.tensor(rgb)), torch.tensor(lab).double(), atol=0.02, rtol=0)


def test_the_source_itself_loses_nothing() -> None:
    source, grey = _colored(), torch.rand(1, 1, 24, 24)
    assert saturation(source, grey, source).item() == pytest.approx(1)
    assert hue(source, grey, source).item() == pytest.approx(0, abs=1e-6)
    assert ciede2000(source, grey, source).item() == pytest.approx(0, abs=1e-6)


def test_a_grey_fusion_has_lost_its_color() -> None:
    source = _colored()
    grey = source.mean(dim=1, keepdim=True)
    assert saturation(grey, grey, source).item() < 0.01
    assert hue(grey, grey, source).item() == pytest.approx(90)


def test_swapped_channels_turn_hues_by_the_angle_between_the_primaries() -> None:
    red, green = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    red[:, 0], green[:, 1] = 1, 1
    (_, a1, b1), (_, a2, b2) = rgb_to_lab(torch.tensor([1.0, 0, 0])), rgb_to_lab(torch.tensor([0, 1.0, 0]))
    expected = math.degrees(math.atan2(b2, a2) - math.atan2(b1, a1))
    assert hue(green, red[:, :1], red).item() == pytest.approx(expected)


def test_the_source_with_color_is_the_reference_wherever_it_stands() -> None:
    source, grey, fused = _colored(), torch.rand(1, 1, 24, 24), _colored(seed=1)
    nearly_grey = grey.repeat(1, 3, 1, 1) + torch.tensor([0, 1 / 255, 0]).view(1, 3, 1, 1)
    for score in (saturation, hue, ciede2000):
        assert score(fused, source, grey).item() == score(fused, grey, source).item()
        assert score(fused, nearly_grey.clamp(0, 1), source).item() == score(fused, grey, source).item()


def test_without_color_there_is_no_score() -> None:
    grey = torch.rand(2, 1, 16, 16)
    for name in ("saturation", "hue", "CIEDE2000"):
        assert METRICS[name]().per_image(grey, grey, grey).isnan().all()


def test_images_of_a_batch_are_scored_one_by_one() -> None:
    fused, source = torch.cat([_colored(seed=1), _colored(seed=2)]), torch.cat([_colored(), _colored(seed=3)])
    grey = torch.rand(2, 1, 24, 24)
    for score in (saturation, hue, ciede2000):
        both = score(fused, grey, source)
        alone = [score(fused[i : i + 1], grey[i : i + 1], source[i : i + 1])[0] for i in range(2)]
        torch.testing.assert_close(both, torch.stack(alone))


def test_a_saturation_of_one_ranks_first() -> None:
    metric = METRICS["saturation"]
    assert metric.distance(1.0) == 0
    assert metric.distance(0.8) == pytest.approx(metric.distance(1.2))
