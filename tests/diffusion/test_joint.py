"""DRFusion's steps: the forward equation undone, values worked out by hand, and α that cannot leave (0, 1)."""

import pytest
import torch

from fusion_lightning.diffusion.denoising import add_noise, remove_noise
from fusion_lightning.diffusion.joint import JointSchedule, correction_strength
from fusion_lightning.errors import UserError


def test_steps_begin_at_one_half() -> None:
    torch.testing.assert_close(JointSchedule(3).alpha_bar(), torch.tensor([1, 0.5, 0.25, 0.125]))


@pytest.mark.parametrize("logit", [-1e6, -20.0, 0.0, 20.0, 1e6])
def test_steps_stay_inside_whatever_was_learned(logit: float) -> None:
    schedule = JointSchedule(3)
    torch.nn.init.constant_(schedule.logits, logit)
    alpha_bar = schedule.alpha_bar()
    steps = (alpha_bar[1:] / alpha_bar[:-1]).detach()
    assert 0 < float(steps.min()) <= float(steps.max()) < 1
    state, noise = torch.rand(2, 1, 3, 4, 4)
    result = add_noise(remove_noise(state, noise, alpha_bar[3]), noise, alpha_bar[2])
    strength = correction_strength(alpha_bar[3], alpha_bar[2], torch.full((1, 1, 1, 1), 0.03))
    (result.sum() + strength.sum()).backward()
    assert result.isfinite().all()
    assert schedule.logits.grad is not None
    assert schedule.logits.grad.isfinite().all()


def test_at_least_one_step() -> None:
    with pytest.raises(UserError, match="`timesteps` must be at least 1, but got 0"):
        JointSchedule(0)


def test_a_step_undoes_the_forward_equation() -> None:
    clean, noise = torch.rand(2, 2, 3, 5, 5).double()
    alpha_bar = JointSchedule(3).alpha_bar().double()

    def forward(t: int) -> torch.Tensor:
        return alpha_bar[t].sqrt() * clean + (1 - alpha_bar[t]).sqrt() * noise

    for t in (3, 2):
        estimate = remove_noise(forward(t), noise, alpha_bar[t])
        torch.testing.assert_close(estimate, clean)
        torch.testing.assert_close(add_noise(estimate, noise, alpha_bar[t - 1]), forward(t - 1))


def test_the_strength_of_the_correction_is_that_of_ddnm_plus() -> None:
    alpha_bar = JointSchedule(3).alpha_bar()
    sigma = torch.tensor([0.0, 0.03, 1.2, 1.25, 3.0]).view(-1, 1, 1, 1)
    # with α = 1/2: s_2 / c_2 = sqrt(1/3) / (sqrt(1/2) · 2/3) = sqrt(3/2), s_3 / c_3 = sqrt(3/7) / (2/7) = sqrt(21)/2
    for t, ratio in ((2, 1.5**0.5), (3, 21**0.5 / 2)):
        expected = [min(1.0, ratio / value) if value else 1.0 for value in sigma.flatten().tolist()]
        strength = correction_strength(alpha_bar[t], alpha_bar[t - 1], sigma)
        torch.testing.assert_close(strength.flatten(), torch.tensor(expected))
