"""Sampling with networks whose answers are known."""

import pytest
import torch
from torch import Tensor

from fusion_lightning.diffusion.residual import ResidualSchedule, diffuse, estimate_clean
from fusion_lightning.diffusion.sampling import draw_noise, sample
from fusion_lightning.errors import UserError

SAMPLERS = ["implicit", "consistent", "stochastic"]


@pytest.fixture(scope="module")
def schedule() -> ResidualSchedule:
    return ResidualSchedule()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    clean, degraded = torch.rand(2, 2, 3, 8, 7).mul(2).sub(1)
    return clean, degraded


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _some_network(state: Tensor, degraded: Tensor, t: Tensor) -> Tensor:
    """Deterministic, depends on everything it is given, and leaves [−1, 1]."""
    return 1.5 * torch.tanh(state - 0.3 * degraded) + t[:, None, None, None] / 1000


@pytest.mark.parametrize("count", range(1, 11))
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_oracle_restores_exactly(
    schedule: ResidualSchedule, pair: tuple[Tensor, Tensor], sampler: str, count: int
) -> None:
    clean, degraded = pair
    steps = list(sample(schedule, lambda *_: degraded - clean, degraded, count, sampler=sampler))
    assert len(steps) == count
    torch.testing.assert_close(steps[-1].image, clean)


def test_two_oracles_restore_exactly(schedule: ResidualSchedule, pair: tuple[Tensor, Tensor]) -> None:
    """Residual and noise network: the noise is the start's, up to the 1 − ᾱ_T of I_res that the start leaves out."""
    clean, degraded = pair
    start = draw_noise(degraded, _seeded())
    noise = start + (1 - schedule.alpha_bar[-1]) * (degraded - clean) / schedule.beta_bar[-1]
    *_, last = sample(
        schedule,
        lambda *_: degraded - clean,
        degraded,
        predict_noise=lambda *_: noise,
        sampler="consistent",
        generator=_seeded(),
    )
    torch.testing.assert_close(last.image, clean, atol=1e-5, rtol=0)


def test_consistent_sampling_visits_the_forward_states(schedule: ResidualSchedule, pair: tuple[Tensor, Tensor]) -> None:
    clean, degraded = pair
    for step in sample(schedule, lambda *_: degraded - clean, degraded, 5, sampler="consistent"):
        torch.testing.assert_close(
            step.state, diffuse(schedule, clean, degraded, step.noise, step.t), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("two_networks", [False, True])
@pytest.mark.parametrize("shared_prior", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trajectory_identity(pair: tuple[Tensor, Tensor], sampler: str, shared_prior: bool, two_networks: bool) -> None:
    """I_t = I_0^θ + ᾱ_t I_res^θ + β̄_t ε^θ − δ̄_t I_in at every step."""
    schedule, degraded = ResidualSchedule(shared_prior=shared_prior), pair[1]
    noise = (lambda state, degraded, t: state.sin()) if two_networks else None
    for step in sample(schedule, _some_network, degraded, 10, predict_noise=noise, sampler=sampler):
        alpha_bar, beta_bar, delta_bar = schedule.at(step.t)
        rebuilt = step.restored + alpha_bar * step.residual + beta_bar * step.noise - delta_bar * degraded
        torch.testing.assert_close(rebuilt, step.state, atol=1e-5, rtol=0)
        if not two_networks:
            torch.testing.assert_close(step.restored, degraded - step.residual, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            estimate_clean(schedule, step.state, degraded, step.residual, step.noise, step.t),
            step.restored,
            atol=1e-5,
            rtol=0,
        )


def test_residuals_are_not_clamped_and_images_are(schedule: ResidualSchedule) -> None:
    """A black image that should be white needs a residual of −2."""
    black = torch.full((1, 3, 4, 4), -1.0)
    *_, last = sample(schedule, lambda *_: torch.full_like(black, -2.0), black)
    torch.testing.assert_close(last.image, torch.ones_like(black))
    *_, beyond = sample(schedule, lambda *_: torch.full_like(black, -2.5), black)
    assert beyond.residual.min() == -2.5
    assert beyond.image.max() == 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_generator_gives_the_same_images(
    schedule: ResidualSchedule, pair: tuple[Tensor, Tensor], sampler: str
) -> None:
    def run(seed: int) -> Tensor:
        *_, last = sample(schedule, _some_network, pair[1], sampler=sampler, generator=_seeded(seed))
        return last.restored

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_per_image_makes_images_independent_of_their_batch(
    schedule: ResidualSchedule, pair: tuple[Tensor, Tensor], sampler: str
) -> None:
    degraded = pair[1]
    *_, together = sample(schedule, _some_network, degraded, sampler=sampler, generator=[_seeded(3), _seeded(4)])
    *_, alone = sample(schedule, _some_network, degraded[1:], sampler=sampler, generator=[_seeded(4)])
    torch.testing.assert_close(together.restored[1:], alone.restored)
    with pytest.raises(ValueError, match=r"one generator per image \(2\), but got 1"):
        draw_noise(degraded, [_seeded()])


def test_half_precision_networks_leave_the_state_in_float32(
    schedule: ResidualSchedule, pair: tuple[Tensor, Tensor]
) -> None:
    steps = sample(schedule, lambda state, *_: state.bfloat16(), pair[1].bfloat16())
    assert {tensor.dtype for step in steps for tensor in (step.state, step.residual, step.restored)} == {torch.float32}


def test_sampling_keeps_no_graph(schedule: ResidualSchedule, pair: tuple[Tensor, Tensor]) -> None:
    scale = torch.ones((), requires_grad=True)
    *_, last = sample(schedule, lambda state, *_: state * scale, pair[1])
    assert not last.restored.requires_grad
    assert torch.is_grad_enabled()


def test_unknown_samplers_are_refused(schedule: ResidualSchedule, pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(UserError, match="`sampler` must be one of implicit, consistent, stochastic, but got 'euler'"):
        next(sample(schedule, _some_network, pair[1], sampler="euler"))
