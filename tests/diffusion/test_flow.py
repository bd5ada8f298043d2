"""The straight line against the diffusion it is, and against exact answers for a Gaussian field."""

from itertools import pairwise

import pytest
import torch

from fusion_lightning.diffusion.denoising import NoiseLevel, NoiseSchedule, denoise
from fusion_lightning.diffusion.flow import even_times, from_velocity, line_level, to_line
from fusion_lightning.errors import UserError
from tests.reference.gaussian_prior import GaussianPrior


@pytest.fixture
def field() -> GaussianPrior:
    generator = torch.Generator().manual_seed(3)
    spectrum = torch.fft.fft2(torch.randn(8, 8, generator=generator, dtype=torch.float64)).abs().square() / 64
    return GaussianPrior(0.3 * torch.randn(8, 8, generator=generator, dtype=torch.float64), spectrum)


def dense_covariance(field: GaussianPrior) -> torch.Tensor:
    """Σ (64, 64) of the field, pixel by pixel."""
    covariance = torch.fft.ifft2(field.spectrum).real
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    rows, columns = rows.flatten(), columns.flatten()
    return covariance[(rows[:, None] - rows) % 8, (columns[:, None] - columns) % 8]


def exact(s: float) -> NoiseLevel:
    """`line_level` in float64."""
    return NoiseLevel(1000 * s, torch.tensor((1 - s) ** 2 / ((1 - s) ** 2 + s**2), dtype=torch.float64))


@pytest.mark.parametrize("s", [0.1, 0.5, 0.97])
def test_one_call_is_the_dense_posterior_mean(field: GaussianPrior, s: float) -> None:
    line = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    sigma = dense_covariance(field)
    mean = field.mean.flatten()
    inverse = torch.linalg.inv((1 - s) ** 2 * sigma + s**2 * torch.eye(64, dtype=torch.float64))
    expected = mean + (1 - s) * sigma @ inverse @ (line.flatten() - (1 - s) * mean)
    level = exact(s)
    state = line * (level.alpha_bar.sqrt() + (1 - level.alpha_bar).sqrt())
    clean, noise = field.predict(state, level)
    torch.testing.assert_close(clean.flatten(), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close((1 - s) * clean + s * noise, line, atol=1e-12, rtol=0)


def test_at_the_noisy_end_a_prior_answers_with_its_mean_whatever_it_sees(field: GaussianPrior) -> None:
    for start in (torch.zeros(1, 1, 8, 8), torch.randn(1, 1, 8, 8)):
        (step,) = denoise(field.predict, start.double(), [exact(1.0)])
        torch.testing.assert_close(step.clean[0, 0], field.mean)


def test_sampling_approaches_a_draw_of_the_field_at_first_order(field: GaussianPrior) -> None:
    z = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    drawn = field.mean + torch.fft.ifft2(field.spectrum.sqrt() * torch.fft.fft2(z)).real
    errors = []
    for steps in (10, 100, 1000):
        *_, last = denoise(field.predict, z, [exact(part / steps) for part in range(steps, 0, -1)])
        errors.append(float((last.clean - drawn).abs().max()))
    assert errors[0] < 0.6
    for coarse, fine in pairwise(errors):
        assert 8 < coarse / fine < 12


def test_steps_of_a_diffusion_are_euler_steps_on_the_line(field: GaussianPrior) -> None:
    alpha_bar = NoiseSchedule().alpha_bar.double()
    levels = [NoiseLevel(t, alpha_bar[t]) for t in even_times(20)]
    steps = list(denoise(field.predict, torch.randn(1, 1, 8, 8, dtype=torch.float64), levels))
    line, s = to_line(steps[0].state, levels[0].alpha_bar)
    for step, following in pairwise(steps):
        below = to_line(following.state, following.level.alpha_bar)[1]
        line = line + (below - s) * (step.noise - step.clean)
        s = below
        torch.testing.assert_close(line, to_line(following.state, following.level.alpha_bar)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("s", [0.01, 0.4, 1.0])
def test_a_prior_of_one_image_is_exact_in_one_step(s: float) -> None:
    image = torch.rand(2, 1, 5, 6) * 2 - 1
    noise = torch.randn(2, 1, 5, 6)
    line = (1 - s) * image + s * noise
    clean, found = from_velocity(line, noise - image, torch.tensor(s))
    torch.testing.assert_close(clean, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(found, noise, atol=1e-3, rtol=0)


def test_no_velocity_means_image_and_noise_are_what_is_seen() -> None:
    line = torch.rand(1, 1, 4, 4) * 1.8 - 0.9
    clean, noise = from_velocity(line, torch.zeros(1, 1, 4, 4), torch.tensor(0.3))
    torch.testing.assert_close(clean, line)
    torch.testing.assert_close(noise, line, atol=1e-6, rtol=0)


def test_clamped_image_and_noise_make_up_the_state() -> None:
    line, s = 3 * torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    clean, noise = from_velocity(line, torch.randn(2, 1, 4, 4), s)
    assert float(clean.abs().max()) == 1
    torch.testing.assert_close((1 - s) * clean + s * noise, line, atol=1e-5, rtol=0)


def test_line_and_diffusion_translate_into_each_other() -> None:
    for s in (0.0, 0.25, 0.5, 1.0):
        level = line_level(s)
        assert level.t == 1000 * s
        state = torch.randn(1, 1, 3, 3)
        line, found = to_line(state, level.alpha_bar)
        assert float(found) == pytest.approx(s, abs=1e-6)
        signal, noise = level.alpha_bar.sqrt(), (1 - level.alpha_bar).sqrt()
        torch.testing.assert_close((signal + noise) * line, state)


@pytest.mark.parametrize("count", [2, 25, 100, 200])
def test_published_times_reach_both_ends(count: int) -> None:
    times = even_times(count)
    assert len(set(times)) == count
    assert times == [round(999 * part / (count - 1)) for part in range(count - 1, -1, -1)]
    alpha_bar = NoiseSchedule().alpha_bar
    ends = [float(to_line(torch.zeros(1), alpha_bar[t])[1]) for t in (times[0], times[-1])]
    assert ends == pytest.approx([0.9937, 0.0099], abs=1e-4)


def test_times_out_of_range_are_refused() -> None:
    assert even_times(1) == [999]
    for count in (0, 1001):
        with pytest.raises(UserError, match=f"`sampling_steps` must lie between 1 and 1000, but got {count}"):
            even_times(count)
