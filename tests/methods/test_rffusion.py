"""RFfusion: the rule the released code comes to, and one call of a prior."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.diffusion.denoising import NoiseLevel
from fusion_lightning.diffusion.likelihood import Likelihood
from fusion_lightning.errors import UserError
from fusion_lightning.methods import RFFusion, UnconditionalPrior
from fusion_lightning.methods.prior import Prior
from fusion_lightning.methods.prior_fusion import stretched
from tests.conftest import save

from .conftest import make_batch


class Known(Prior):
    """A prior that knows one image, and counts how often it is asked."""

    channels = 1

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image, self.seen = image, []

    def predict(self, state: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        self.seen.append((state, level.t))
        return self.image.expand_as(state), state


@pytest.fixture
def grey() -> FusionBatch:
    return make_batch(["one", "two"], (9, 14), color=None)


def test_without_a_prior_it_is_the_closed_form_rule(grey: FusionBatch) -> None:
    method = RFFusion()
    assert not list(method.parameters())
    a, b = (2 * grey[key].double() - 1 for key in ("source_a", "source_b"))  # type: ignore[literal-required]
    of_b = 1 / (a.square() + 1e-6).sqrt()
    of_a = torch.minimum(1 / (b.square() + 1e-6).sqrt(), 2 * of_b)
    expected = ((of_a * a + of_b * b) / (of_a + of_b) + 1) / 2
    torch.testing.assert_close(method.fuse(grey)["fused"].double(), expected, atol=1e-5, rtol=0)
    # nearly (|a| a + |b| b) / (|a| + |b|) where the cap does not bite, and never more of a than two thirds
    free = of_a < 2 * of_b
    simple = ((a.abs() * a + b.abs() * b) / (a.abs() + b.abs()) + 1) / 2
    torch.testing.assert_close(expected[free], simple[free], atol=2e-3, rtol=0)
    assert float((of_a / (of_a + of_b)).max()) <= 2 / 3 + 1e-9


def test_a_prior_that_knows_mid_grey_gives_the_same(grey: FusionBatch) -> None:
    method = RFFusion()
    expected = method.fuse(grey)["fused"]
    method.prior = Known(torch.zeros(1, 1, 9, 14))
    torch.testing.assert_close(method.fuse(grey)["fused"], expected)
    ((state, t),) = method.prior.seen  # one call
    assert t == 1000
    torch.testing.assert_close(state, 2 * grey["source_b"] - 1)


def test_a_prior_of_one_image_gives_the_step_from_that_image(grey: FusionBatch) -> None:
    method, image = RFFusion(level=0.5), torch.rand(1, 1, 9, 14) * 2 - 1
    method.prior = Known(image)
    a, b = (2 * grey[key] - 1 for key in ("source_a", "source_b"))  # type: ignore[literal-required]
    expected = Likelihood(b, a)(image.expand_as(a), NoiseLevel(0, torch.tensor(0.5)))
    torch.testing.assert_close(method.fuse(grey)["fused"], (expected + 1) / 2)
    ((state, t),) = method.prior.seen
    assert t == 500
    torch.testing.assert_close(state, b * 2**0.5)  # x_s times α + σ


def test_a_checkpoint_gives_the_prior(grey: FusionBatch, tmp_path: Path) -> None:
    path = save(UnconditionalPrior(size="tiny"), tmp_path / "prior.ckpt")
    method = RFFusion(prior=path).eval()
    assert not any(parameter.requires_grad for parameter in method.parameters())
    with torch.no_grad():
        fused = method.fuse(grey)["fused"]
    # an untrained network takes what it sees for the clean image: the step then starts at b
    a, b = (2 * grey[key] - 1 for key in ("source_a", "source_b"))  # type: ignore[literal-required]
    expected = (Likelihood(b, a)(b, NoiseLevel(0, torch.tensor(0.0))) + 1) / 2
    torch.testing.assert_close(fused, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept_and_stretching_is_an_option(color: str | None) -> None:
    batch = make_batch(["one"], (7, 5), color)
    fused = RFFusion().fuse(batch)["fused"]
    assert fused.shape == (1, 1 if color is None else 3, 7, 5)
    if color is None:
        torch.testing.assert_close(RFFusion(stretch=True).fuse(batch)["fused"], stretched(fused))


def test_options_out_of_range_are_refused() -> None:
    for options, words in (
        ({"level": 0.0}, r"`level` must lie in \(0, 1\], but got 0"),
        ({"likelihood": "mine"}, "`likelihood` must be one of released, paper"),
        ({"prior": "missing.ckpt"}, "there is no checkpoint missing.ckpt"),
    ):
        with pytest.raises(UserError, match=words):
            RFFusion(**options)  # type: ignore[arg-type]
