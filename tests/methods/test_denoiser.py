"""What the denoising diffusions share, with known answers."""

import math

import pytest
import torch

from fusion_lightning.diffusion.denoising import NoiseLevel, add_noise, implied_noise
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.methods.denoiser import Denoiser

NAMES = ["one", "two", "three"]


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(3, 1, 6, 5) * 1.8 - 0.9


def test_an_image_s_time_and_noise_are_its_own(clean: torch.Tensor) -> None:
    denoiser = Denoiser()
    together, alone = (denoiser.draw(clean[-n:], generators_for(NAMES[-n:], 3)) for n in (3, 1))
    assert torch.equal(together.t[-1:], alone.t)
    assert torch.equal(together.state[-1:], alone.state)
    torch.testing.assert_close(add_noise(clean, together.noise, together.alpha_bar), together.state)
    assert not torch.equal(denoiser.draw(clean, generators_for(NAMES, 4)).t, together.t)


def test_training_may_visit_the_sampled_times_alone(clean: torch.Tensor) -> None:
    denoiser = Denoiser(sampling_steps=3, times="sampled")
    seen = {int(t) for key in range(20) for t in denoiser.draw(clean, generators_for(NAMES, key)).t}
    assert seen == {999, 665, 332}


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_the_right_output_has_no_loss_and_is_read_as_the_truth(prediction: str, clean: torch.Tensor) -> None:
    denoiser = Denoiser(prediction=prediction)  # type: ignore[arg-type]
    base = torch.rand(3, 1, 6, 5)
    drawn = denoiser.draw(clean, generators_for(NAMES))
    output = drawn.noise if prediction == "noise" else clean - base
    read, noise = denoiser.interpret(output, drawn.state, drawn.alpha_bar, base)
    torch.testing.assert_close(read, clean, atol=1e-3, rtol=0)
    torch.testing.assert_close(noise, drawn.noise, atol=1e-3, rtol=0)
    perfect, worse = (float(denoiser.loss(one, drawn, clean, base)) for one in (output, output + 0.1))
    assert perfect == pytest.approx(0 if prediction == "noise" else 0.1 * math.log(1e-3), abs=1e-5)
    assert worse > perfect + 0.005


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_clamp_and_noise_agree(prediction: str) -> None:
    denoiser, alpha_bar = Denoiser(prediction=prediction), torch.tensor(0.2)  # type: ignore[arg-type]
    state, output = torch.randn(1, 1, 8, 8), 3 * torch.randn(1, 1, 8, 8)
    read, noise = denoiser.interpret(output, state, alpha_bar, torch.zeros(()))
    assert float(read.abs().max()) == 1
    torch.testing.assert_close(add_noise(read, noise, alpha_bar), state, atol=1e-5, rtol=0)


def test_mixing_clean_images_is_mixing_noises() -> None:
    state, alpha_bar, share = torch.randn(1, 1, 8, 8), torch.tensor(0.3), torch.rand(1, 1, 8, 8)
    a, b = torch.rand(2, 1, 1, 8, 8)
    mixed = implied_noise(state, share * a + (1 - share) * b, alpha_bar)
    apart = share * implied_noise(state, a, alpha_bar) + (1 - share) * implied_noise(state, b, alpha_bar)
    torch.testing.assert_close(mixed, apart, atol=1e-6, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 25])
def test_the_walk_ends_at_what_the_predictor_knows_and_stays_in_float32(steps: int, clean: torch.Tensor) -> None:
    denoiser = Denoiser(sampling_steps=steps)

    def oracle(state: torch.Tensor, level: NoiseLevel) -> tuple[torch.Tensor, torch.Tensor]:
        noise = implied_noise(state, clean, level.alpha_bar)
        return denoiser.interpret(noise, state, level.alpha_bar)

    with torch.autocast("cpu", torch.bfloat16):
        walked = denoiser.walk(oracle, clean, generators_for(NAMES))
    assert len(walked) == steps
    assert all(one.dtype == torch.float32 for step in walked for one in (step.state, step.clean, step.noise))
    torch.testing.assert_close(walked[-1].clean, clean, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prediction": "velocity"}, "`prediction` must be one of noise, clean, but got 'velocity'"),
        ({"times": "some"}, "`times` must be one of all, sampled, but got 'some'"),
        ({"sampling_steps": 0}, "`sampling_steps` must lie between 1 and 1000"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Denoiser(**options)  # type: ignore[arg-type]
