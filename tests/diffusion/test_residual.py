"""The residual diffusion against hand-written formulas, its own posterior, and an oracle network."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fusion_lightning.diffusion.residual import (
    CLEAN,
    ResidualSchedule,
    consistent_step,
    diffuse,
    estimate_clean,
    estimate_noise,
    implicit_step,
    start_state,
    stochastic_step,
)
from fusion_lightning.errors import UserError

T = 1000


@pytest.fixture(scope="module")
def schedule() -> ResidualSchedule:
    return ResidualSchedule()


@pytest.fixture
def images() -> tuple[Tensor, Tensor, Tensor]:
    clean, degraded = torch.rand(2, 2, 3, 6, 5).mul(2).sub(1)
    return clean, degraded, torch.randn(2, 3, 6, 5)


def _by_hand(t: int) -> tuple[float, float, float]:
    """ᾱ, β̄, δ̄ after t of the paper's 1 … T steps, from the sums and products as they are written."""
    kept = math.prod(1 - (1e-4 + (2e-2 - 1e-4) * k / (T - 1)) for k in range(t))
    delta = sum(1e-6 + (1.8e-3 - 1e-6) * k / (T - 1) for k in range(t))
    return 1 - math.sqrt(kept), math.sqrt(1 - kept), delta


def test_schedule_ends_where_the_method_says(schedule: ResidualSchedule) -> None:
    assert schedule.alpha_bar[-1].item() == pytest.approx(0.9936, abs=5e-5)
    assert schedule.beta_bar[-1].item() == pytest.approx(1.0000, abs=5e-5)
    assert schedule.delta_bar[-1].item() == pytest.approx(0.9005, abs=5e-5)


@pytest.mark.parametrize("t", [0, 1, 332, 665, 999])
def test_schedule_matches_sums_and_products(schedule: ResidualSchedule, t: int) -> None:
    assert [bar.item() for bar in schedule.at(t)] == pytest.approx(_by_hand(t + 1), rel=1e-6)


def test_steps_sum_to_the_cumulative_coefficients(schedule: ResidualSchedule) -> None:
    torch.testing.assert_close(schedule.alpha.cumsum(0), schedule.alpha_bar)
    torch.testing.assert_close(schedule.beta.square().cumsum(0).sqrt(), schedule.beta_bar)
    torch.testing.assert_close(schedule.delta.cumsum(0), schedule.delta_bar)


def test_clean_end_has_no_coefficients(schedule: ResidualSchedule) -> None:
    assert all(bar == 0 for bar in schedule.at(CLEAN))


@pytest.mark.parametrize("t", [-2, 1000])
def test_times_outside_the_schedule_are_refused(schedule: ResidualSchedule, t: int) -> None:
    with pytest.raises(ValueError, match=r"`t` must lie in -1 … 999"):
        schedule.at(t)


def test_a_shorter_schedule_keeps_its_ends() -> None:
    short = ResidualSchedule(timesteps=100)
    assert short.delta_bar[-1].item() == pytest.approx(0.9005, abs=5e-5)
    assert short.alpha_bar[-1].item() == pytest.approx(0.9936, abs=2e-3)
    with pytest.raises(UserError, match="`timesteps` must be at least 25"):
        ResidualSchedule(timesteps=10)


def test_the_shared_prior_can_be_left_out(images: tuple[Tensor, Tensor, Tensor]) -> None:
    schedule = ResidualSchedule(shared_prior=False)
    clean, degraded, noise = images
    assert not schedule.delta_bar.any()
    torch.testing.assert_close(start_state(schedule, degraded, noise), degraded + schedule.beta_bar[-1] * noise)
    torch.testing.assert_close(diffuse(schedule, clean, degraded, noise, 999), degraded + noise, atol=0.02, rtol=0)


def test_the_noise_can_end_weaker(schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor]) -> None:
    quiet = ResidualSchedule(noise_scale=0.1)
    clean, degraded, noise = images
    expected = diffuse(schedule, clean, degraded, 0.1 * noise, 600)
    torch.testing.assert_close(diffuse(quiet, clean, degraded, noise, 600), expected)
    torch.testing.assert_close(quiet.beta, 0.1 * schedule.beta)
    with pytest.raises(UserError, match="`noise_scale` must lie in"):
        ResidualSchedule(noise_scale=0)


def test_network_times(schedule: ResidualSchedule) -> None:
    t = torch.tensor([0, 999])
    torch.testing.assert_close(schedule.residual_time(t), torch.tensor([_by_hand(1)[0] * T, _by_hand(T)[0] * T]))
    torch.testing.assert_close(schedule.noise_time(t), torch.tensor([_by_hand(1)[1] * T, _by_hand(T)[1] * T]))


@pytest.mark.parametrize(
    ("count", "times"),
    [(1, [999]), (2, [999, 499]), (3, [999, 665, 332]), (4, [999, 749, 499, 249]), (5, [999, 799, 599, 399, 199])],
)
def test_sampling_times(schedule: ResidualSchedule, count: int, times: list[int]) -> None:
    assert schedule.sampling_times(count) == times


@pytest.mark.parametrize("count", [*range(1, 11), 1000])
def test_sampling_times_fall_evenly_to_the_clean_end(schedule: ResidualSchedule, count: int) -> None:
    times = [*schedule.sampling_times(count), CLEAN]
    gaps = [later - earlier for later, earlier in pairwise(times)]
    assert times[0] == 999
    assert len(gaps) == count
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [0, 1001])
def test_impossible_sampling_counts_are_refused(schedule: ResidualSchedule, count: int) -> None:
    with pytest.raises(UserError, match="`sampling_steps` must lie between 1 and 1000"):
        schedule.sampling_times(count)


def test_forward_marginal(schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, degraded, noise = images
    t = torch.tensor([10, 700])
    state = diffuse(schedule, clean, degraded, noise, t)
    for one, time in enumerate(t.tolist()):
        alpha_bar, beta_bar, delta_bar = _by_hand(time + 1)
        expected = (
            clean[one] + alpha_bar * (degraded[one] - clean[one]) + beta_bar * noise[one] - delta_bar * degraded[one]
        )
        torch.testing.assert_close(state[one], expected)


def test_forward_marginal_is_the_composition_of_single_steps(schedule: ResidualSchedule) -> None:
    clean, degraded, t = torch.tensor(0.4), torch.tensor(-0.5), 40
    state = clean.expand(20_000)
    for step in range(t + 1):
        state = state + schedule.alpha[step] * (degraded - clean) - schedule.delta[step] * degraded
        state = state + schedule.beta[step] * torch.randn_like(state)
    mean = diffuse(schedule, clean, degraded, torch.zeros(()), t)
    deviation = schedule.beta_bar[t]
    assert state.mean().item() == pytest.approx(mean.item(), abs=4 * deviation.item() / math.sqrt(20_000))
    assert state.std().item() == pytest.approx(deviation.item(), rel=0.03)


def test_every_degradation_ends_in_the_same_place(schedule: ResidualSchedule) -> None:
    """The hourglass' waist: about 0.1 I_in + ε, whatever the clean image was."""
    clean, degraded, noise = torch.rand(3, 1, 3, 4, 4) * 2 - 1
    state = diffuse(schedule, clean, degraded, noise, 999)
    torch.testing.assert_close(state, 0.1 * degraded + noise, atol=0.02, rtol=0)
    torch.testing.assert_close(start_state(schedule, degraded, noise), state, atol=0.02, rtol=0)
    torch.testing.assert_close(
        start_state(schedule, degraded, noise, start_noise=0.1), 0.1 * degraded + 0.1 * noise, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("t", [5, 332, 999])
def test_estimates_solve_the_forward_equation(
    schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor], t: int
) -> None:
    clean, degraded, noise = images
    residual = degraded - clean
    state = diffuse(schedule, clean, degraded, noise, t)
    torch.testing.assert_close(estimate_noise(schedule, state, degraded, residual, t), noise, atol=1e-4, rtol=0)
    torch.testing.assert_close(estimate_clean(schedule, state, degraded, residual, noise, t), clean)


@pytest.mark.parametrize(("t", "previous"), [(999, 998), (999, 332), (332, CLEAN), (5, 4)])
def test_consistent_step_walks_the_forward_path_back(
    schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor], t: int, previous: int
) -> None:
    clean, degraded, noise = images
    state = diffuse(schedule, clean, degraded, noise, t)
    stepped = consistent_step(schedule, state, degraded, degraded - clean, noise, t, previous)
    torch.testing.assert_close(stepped, diffuse(schedule, clean, degraded, noise, previous), atol=1e-6, rtol=1e-5)


def test_implicit_step_keeps_the_noise(schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor]) -> None:
    clean, degraded, noise = images
    state = diffuse(schedule, clean, degraded, noise, 665)
    stepped = implicit_step(schedule, state, degraded, degraded - clean, 665, 332)
    without_noise = diffuse(schedule, clean, degraded, torch.zeros_like(noise), 332)
    torch.testing.assert_close(stepped, without_noise + schedule.beta_bar[665] * noise)


@pytest.mark.parametrize("t", [3, 500, 999])
def test_stochastic_step_has_the_papers_mean_and_deviation(
    schedule: ResidualSchedule, images: tuple[Tensor, Tensor, Tensor], t: int
) -> None:
    clean, degraded, noise = images
    residual, state = degraded - clean, torch.randn_like(clean)
    step = [schedule, state, degraded, residual, noise]
    mean = stochastic_step(*step, torch.zeros_like(noise), t, t - 1)
    deviation = stochastic_step(*step, torch.ones_like(noise), t, t - 1) - mean
    alpha, beta, delta = schedule.alpha[t], schedule.beta[t], schedule.delta[t]
    beta_bar, beta_bar_before = schedule.beta_bar[t], schedule.beta_bar[t - 1]
    expected = state - alpha * residual + delta * degraded - beta**2 / beta_bar * noise
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=1e-5)
    expected_deviation = (beta * beta_bar_before / beta_bar).expand_as(deviation)
    torch.testing.assert_close(deviation, expected_deviation, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("t", "previous"), [(20, 19), (665, 332), (400, 0)])
def test_stochastic_step_leads_from_one_marginal_to_the_other(
    schedule: ResidualSchedule, t: int, previous: int
) -> None:
    count = 40_000
    clean, degraded = torch.full((1, 1, 1, count), 0.3), torch.full((1, 1, 1, count), -0.6)
    state = diffuse(schedule, clean, degraded, torch.randn_like(clean), t)
    noise = estimate_noise(schedule, state, degraded, degraded - clean, t)
    stepped = stochastic_step(schedule, state, degraded, degraded - clean, noise, torch.randn_like(clean), t, previous)
    mean = diffuse(schedule, clean, degraded, torch.zeros_like(clean), previous).mean()
    deviation = schedule.beta_bar[previous].item()
    assert stepped.mean().item() == pytest.approx(mean.item(), abs=4 * deviation / math.sqrt(count))
    assert stepped.std().item() == pytest.approx(deviation, rel=0.02)
