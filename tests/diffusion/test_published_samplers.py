"""Arithmetic of published code, as facts to know when its pictures are repeated: docs/published_code.md."""

import math

import pytest
import torch

from fusion_lightning.diffusion.denoising import NoiseLevel, NoiseSchedule, denoise, implied_noise


def test_drmf_s_state_has_no_noise_where_the_schedule_has_some() -> None:
    schedule, clean = NoiseSchedule(), torch.zeros(1, 1, 64, 64)
    levels = schedule.levels(schedule.sampling_times(5))

    def without_noise(state: torch.Tensor, level: NoiseLevel) -> tuple[torch.Tensor, torch.Tensor]:
        return clean, torch.zeros_like(state)

    def with_noise(state: torch.Tensor, level: NoiseLevel) -> tuple[torch.Tensor, torch.Tensor]:
        return clean, implied_noise(state, clean, level.alpha_bar)

    start = torch.randn(1, 1, 64, 64)
    for predict, expected in ((without_noise, [0.0, 0.0, 0.0]), (with_noise, [0.987, 0.898, 0.586])):
        steps = list(denoise(predict, start / start.std(), levels))
        deviations = [float(step.state.std()) for step in steps[2:]]
        assert deviations == pytest.approx(expected, abs=4e-3)


def test_text_difuse_s_ancestral_step_leaves_no_noise_of_the_state() -> None:
    """The posterior mean of x_{t−1} given x_t and the true x_0; cosine schedule, times 999 and 957 of 1000."""

    def alpha_bar(t: float) -> float:
        cosines = [math.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2 for at in (t, 0.0)]
        return cosines[0] / cosines[1]

    # β is capped at 0.999, which only the last of 1000 times meets
    first = alpha_bar(999 / 1000) * 0.001
    second = alpha_bar(958 / 1000)
    left = math.sqrt(first / second) * (1 - second) / (1 - first)
    assert left == pytest.approx(0.00075, abs=2e-5)


def test_mask_difuser_s_last_step_keeps_noise() -> None:
    above, end = NoiseSchedule().alpha_bar[[1, 0]].double()
    assert float(end) == pytest.approx(0.9999, abs=1e-6)
    fresh = ((1 - end) / (1 - above) * (1 - above / end)).sqrt()
    predicted = (1 - end - fresh**2).sqrt()
    assert [float(one) * 127.5 for one in (fresh, predicted)] == pytest.approx([0.9, 0.9], abs=0.06)


def test_a_memory_view_moves_pixels() -> None:
    maps = torch.zeros(1, 512, 4, 6)
    maps[0, 7, 2, 3] = 1
    assert maps.view(1, -1, 64, 96).nonzero().tolist() == [[0, 0, 1, 87]]


def test_clamping_the_diffusion_s_range_leaves_nothing_below_mid_grey() -> None:
    image = torch.tensor([0.1, 0.4, 0.6, 0.9], requires_grad=True)
    clamped = (2 * image - 1).clamp(0, 1)
    clamped.sum().backward()
    assert clamped[:2].tolist() == [0, 0]
    assert image.grad is not None
    assert image.grad.tolist() == [0, 0, 2, 2]


def test_mid_grey_has_no_direction() -> None:
    grey = torch.full((3,), 2 * 0.5 - 1)
    assert float(torch.cosine_similarity(grey, torch.tensor([0.3, -0.2, 0.1]), dim=0)) == 0
