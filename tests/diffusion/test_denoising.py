"""The ordinary noise schedule against its published end and the definition."""

import numpy as np
import pytest
import torch

from fusion_lightning.diffusion.denoising import NoiseSchedule, add_noise
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
