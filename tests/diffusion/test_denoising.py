"""The ordinary noise schedule against its published end and the definition, and the walk back with known answers."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from fusion_lightning.diffusion.denoising import (
    DenoisingStep,
    NoiseLevel,
    NoiseSchedule,
    Predict,
    add_noise,
    denoise,
    implied_noise,
    remove_noise,
)
from fusion_lightning.errors import UserError


def test_the_schedule_is_the_published_one() -> None:
    alpha_bar = NoiseSchedule().alpha_bar.double().numpy()
    np.testing.assert_allclose(alpha_bar, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), rtol=1e-6)
    assert alpha_bar[-1] == pytest.approx(4.036e-5, rel=1e-3)


def test_fewer_times_end_in_as_much_noise() -> None:
    assert float(NoiseSchedule(200).alpha_bar[-1]) == pytest.approx(4e-5, rel=0.3)


@pytest.mark.parametrize("timesteps", [0, -1, 20])
def test_too_few_times_are_refused(timesteps: int) -> None:
    with pytest.raises(UserError, match=f"`timesteps` must be at least 21, but got {timesteps}"):
        NoiseSchedule(timesteps)


def test_sampling_times_are_spread_from_the_noisy_end() -> None:
    assert NoiseSchedule().sampling_times(3) == [999, 665, 332]
    with pytest.raises(UserError, match="`sampling_steps` must lie between 1 and 1000, but got 0"):
        NoiseSchedule().sampling_times(0)


def test_noise_has_the_variance_that_is_left() -> None:
    noisy = add_noise(torch.full((1, 1, 200, 200), 0.5), torch.randn(1, 1, 200, 200), torch.tensor(0.36))
    assert float(noisy.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(noisy.std()) == pytest.approx(0.8, abs=0.02)


def _walk(count: int, predict: object, **options: object) -> list[DenoisingStep]:
    schedule = NoiseSchedule()
    levels = schedule.levels(schedule.sampling_times(count))
    torch.manual_seed(1)
    return list(denoise(predict, torch.randn(2, 1, 6, 5), levels, **options))  # type: ignore[arg-type]


def _oracle(clean: torch.Tensor) -> Predict:
    return lambda state, level: (clean, implied_noise(state, clean, level.alpha_bar))


def test_noise_and_clean_image_imply_each_other() -> None:
    state, clean = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    for alpha_bar in (torch.tensor(4e-5), torch.tensor(0.5), torch.tensor([0.01, 0.99]).view(2, 1, 1, 1)):
        noise = implied_noise(state, clean, alpha_bar)
        torch.testing.assert_close(add_noise(clean, noise, alpha_bar), state, atol=1e-5, rtol=0)
        # an error of the noise grows by sqrt((1 − ᾱ) / ᾱ) on its way to the clean image
        torch.testing.assert_close(remove_noise(state, noise, alpha_bar), clean, atol=2e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 3, 25])
def test_the_truth_as_predictor_gives_the_truth(count: int) -> None:
    clean = torch.rand(2, 1, 6, 5)
    steps = _walk(count, _oracle(clean))
    assert [step.level.t for step in steps] == NoiseSchedule().sampling_times(count)
    assert torch.equal(steps[-1].clean, clean)
    for step in steps:
        rebuilt = add_noise(step.clean, step.noise, step.level.alpha_bar)
        torch.testing.assert_close(rebuilt, step.state, atol=1e-5, rtol=0)


def test_the_true_noise_as_predictor_gives_the_truth() -> None:
    """The noise stays what it was at the start, whatever is visited."""
    clean, truth = torch.rand(2, 1, 6, 5), torch.randn(2, 1, 6, 5)
    schedule = NoiseSchedule()
    levels = schedule.levels(schedule.sampling_times(7))
    start = add_noise(clean, truth, levels[0].alpha_bar)
    *_, last = denoise(lambda state, level: (remove_noise(state, truth, level.alpha_bar), truth), start, levels)
    torch.testing.assert_close(last.clean, clean, atol=1e-3, rtol=0)


def test_a_guide_moves_the_clean_images_and_the_walk_follows() -> None:
    clean = torch.rand(2, 1, 6, 5)
    seen: list[float] = []

    def guide(image: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        seen.append(level.t)
        return 0.5 * image

    steps = _walk(4, _oracle(clean), guide=guide)
    assert seen == [999, 749, 499, 249]
    for step, after in pairwise(steps):
        assert torch.equal(step.estimate, clean)
        assert torch.equal(step.clean, 0.5 * clean)
        torch.testing.assert_close(after.state, add_noise(step.clean, step.noise, after.level.alpha_bar))
    implied = _walk(4, _oracle(clean), guide=guide, implied=True)
    for step in implied:
        rebuilt = add_noise(step.clean, step.noise, step.level.alpha_bar)
        torch.testing.assert_close(rebuilt, step.state, atol=1e-5, rtol=0)
    assert not torch.allclose(implied[1].state, steps[1].state)


def test_implied_noise_changes_nothing_while_the_guide_changes_nothing() -> None:
    clean = torch.rand(2, 1, 6, 5)
    for one, other in zip(
        _walk(5, _oracle(clean)), _walk(5, _oracle(clean), guide=lambda image, level: image, implied=True), strict=True
    ):
        torch.testing.assert_close(one.state, other.state, atol=1e-6, rtol=0)


def test_a_walk_may_start_at_pure_noise() -> None:
    clean = torch.rand(2, 1, 6, 5)
    levels = [NoiseLevel(1000, torch.tensor(0.0)), NoiseLevel(300, torch.tensor([0.3, 0.6]).view(2, 1, 1, 1))]
    first, last = denoise(_oracle(clean), torch.randn(2, 1, 6, 5), levels)
    assert torch.equal(first.noise, first.state)
    assert torch.equal(last.clean, clean)


def test_steps_are_made_as_they_are_asked_for() -> None:
    calls: list[float] = []

    def predict(state: torch.Tensor, level: NoiseLevel) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(level.t)
        return state, state

    schedule = NoiseSchedule()
    walk = denoise(predict, torch.randn(1, 1, 2, 2), schedule.levels([999, 499]))
    next(walk)
    assert calls == [999]
