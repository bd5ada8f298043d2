"""DDFM: where the released weights and the paper's lead, and whose noise is whose."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.diffusion.denoising import add_noise, remove_noise
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb, rgb_to_cbcr, rgb_to_luma
from fusion_lightning.methods import DDFM, Controls, RFFusion, UnconditionalPrior, build_method
from fusion_lightning.methods.prior import Prior
from fusion_lightning.methods.prior_fusion import on_luma, stretched
from fusion_lightning.networks.guided_unet import GuidedUNet
from tests.conftest import save
from tests.reference.gaussian_prior import GaussianPrior

from .conftest import make_batch


def make_method(**options: object) -> DDFM:
    method = DDFM(size="tiny", **{"sampling_steps": 5, **options}).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(method.prior.network.noise_decoder.head.weight, std=0.1)
    return method


def clean_batch(names: list[str]) -> FusionBatch:
    """Grey pairs without noise."""
    batch = make_batch(names, (24, 24), color=None)
    return {**batch, "source_a": batch["clean_a"], "source_b": batch["clean_b"]}  # type: ignore[typeddict-item]


def gaussian_prior() -> GaussianPrior:
    """The exact prior of a Gaussian field with the spectrum of other pairs."""
    return GaussianPrior.of(2 * clean_batch(list("cdefgh"))["source_a"] - 1)


def distance(fused: torch.Tensor, target: torch.Tensor, batch: FusionBatch) -> float:
    """Root of the mean squared difference, as a share of the sources' mean difference."""
    a, b = batch["source_a"], batch["source_b"]
    return float((fused - target).square().mean().sqrt() / (a - b).abs().mean())


@pytest.mark.parametrize("network", ["untrained", "gaussian"])
def test_the_released_sampler_ends_at_the_average(network: str) -> None:
    """Whatever the prior is: a share p of a source becomes 1 − p in every step, which contracts to one half."""
    batch = clean_batch(["one"])
    method = DDFM(size="tiny", sampling_steps=100).eval()
    if network == "gaussian":
        method.prior = gaussian_prior()
    with torch.no_grad():
        fused = method.fuse(batch)["fused"]
        coarse = DDFM(size="tiny", sampling_steps=10).eval().fuse(batch)["fused"]
    average = (batch["source_a"] + batch["source_b"]) / 2
    assert distance(fused, average, batch) < 0.05
    assert distance(coarse, average, batch) > distance(fused, average, batch)


def test_the_paper_s_sampler_ends_near_one_source() -> None:
    batch = clean_batch(["one"])
    method = DDFM(size="tiny", sampling_steps=100, likelihood="paper").eval()
    method.prior = gaussian_prior()
    with torch.no_grad():
        fused = method.fuse(batch)["fused"]
    a, b = batch["source_a"], batch["source_b"]
    share = float(((fused - b) * (a - b)).sum() / (a - b).square().sum())
    assert min(share, 1 - share) < 0.2
    # with the scales fixed, every mixture is as likely, and noise decides
    loose = DDFM(size="tiny", sampling_steps=100, likelihood="paper", update_scales=False).eval()
    loose.prior = method.prior
    with torch.no_grad():
        spread = loose.fuse(batch)["fused"]
    local = ((spread - b) / (a - b))[(a - b).abs() > 0.1]
    assert float(local.std()) > 0.2


def test_noise_belongs_to_the_name_and_an_image_does_not_depend_on_its_batch() -> None:
    method = make_method()
    with torch.no_grad():
        together = method.fuse(make_batch(["one", "two"], (9, 14)))["fused"]
        alone = method.fuse(make_batch(["two"], (9, 14)))["fused"]
        torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)
        renamed = make_batch(["two"], (9, 14))
        renamed["name"] = ["other"]
        assert not torch.allclose(method.fuse(renamed)["fused"], alone, atol=1e-3)


@pytest.mark.parametrize("color", ["a", "b", None])
def test_colour_and_size_are_kept(color: str | None) -> None:
    batch = make_batch(["one"], (7, 13), color)
    with torch.no_grad():
        fused = make_method().fuse(batch)["fused"]
    assert fused.shape == (1, 1 if color is None else 3, 7, 13)
    assert 0 <= float(fused.min()) <= float(fused.max()) <= 1


def test_constant_and_equal_sources_are_fused() -> None:
    batch = make_batch(["one"], (16, 16), color=None)
    batch["source_a"] = batch["source_b"]
    with torch.no_grad():
        torch.testing.assert_close(make_method().fuse(batch)["fused"], batch["source_b"], atol=1e-5, rtol=0)
        batch["source_a"] = batch["source_b"] = torch.full_like(batch["source_a"], 0.25)
        torch.testing.assert_close(make_method().fuse(batch)["fused"], batch["source_a"], atol=1e-5, rtol=0)


def test_stretching_is_to_the_image_s_own_range() -> None:
    batch = make_batch(["one", "two"], (16, 16), color=None)
    with torch.no_grad():
        plain, wide = (make_method(stretch=stretch) for stretch in (False, True))
        wide.load_state_dict(plain.state_dict())
        fused, stretch = plain.fuse(batch)["fused"], wide.fuse(batch)["fused"]
    torch.testing.assert_close(stretch, stretched(fused), atol=1e-4, rtol=0)
    assert stretch.flatten(1).amin(1).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert stretch.flatten(1).amax(1).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_the_trajectory_ends_at_the_fusion() -> None:
    method, batch = make_method(sampling_steps=20), make_batch(["one", "two"], (8, 8), color=None)
    rows, columns = method.trajectory_sheet(batch)
    assert columns == ["state", "estimated", "guided"]
    assert [len(row) for row in rows] == [3] * 8
    with torch.no_grad():
        torch.testing.assert_close(rows[-1][-1], method.fuse(batch)["fused"][0])
    assert not torch.allclose(rows[0][-1], rows[-1][-1], atol=0.01)


def test_a_prior_in_colour_is_guided_in_brightness_alone() -> None:
    class Colored(Prior):
        channels = 3

        def predict(self, state: torch.Tensor, level: object) -> tuple[torch.Tensor, torch.Tensor]:
            assert state.shape[1] == 3
            return (0.5 * state).clamp(-1, 1), state

    method, batch = make_method(), make_batch(["one"], (8, 8), color="b")
    method.prior = Colored()
    steps = method.walk(batch)
    assert steps[-1].clean.shape == (1, 3, 8, 8)
    for step in steps:
        torch.testing.assert_close(rgb_to_cbcr(step.clean), rgb_to_cbcr(step.estimate), atol=1e-5, rtol=0)
    assert method.fuse(batch)["fused"].shape == (1, 3, 8, 8)
    doubled = on_luma(lambda luma, level: 2 * luma)(as_rgb(torch.full((1, 1, 2, 2), 0.3)), steps[0].level)
    torch.testing.assert_close(rgb_to_luma(doubled), torch.full((1, 1, 2, 2), 0.6))


def test_a_trained_prior_is_taken_from_any_checkpoint_that_has_one(tmp_path: Path) -> None:
    prior = UnconditionalPrior(size="tiny")
    torch.nn.init.normal_(prior.prior.network.noise_decoder.head.weight, std=0.1)
    path = save(prior, tmp_path / "prior.ckpt")
    method = build_method({"class_path": "DDFM", "init_args": {"prior": path, "sampling_steps": 4}})
    again = DDFM(prior=save(method, tmp_path / "ddfm.ckpt"), sampling_steps=4).eval()
    assert method.hparams["size"] == "tiny"
    assert method.hparams["prior"] is None
    with torch.no_grad():
        batch = make_batch(["one"], (16, 16))
        assert torch.equal(method.fuse(batch)["fused"], again.fuse(batch)["fused"])
        alone = build_method(str(tmp_path / "ddfm.ckpt"))
        assert torch.equal(method.fuse(batch)["fused"], alone.fuse(batch)["fused"])
    with pytest.raises(UserError, match="`prior` is trained already: there is nothing to train"):
        method.configure_optimizers()


def test_weights_of_guided_diffusion_are_a_prior_of_colour_images(tmp_path: Path) -> None:
    network = GuidedUNet(32, (1, 2), (False, True))
    torch.nn.init.normal_(network.out[2].weight, std=0.05)
    torch.save(network.state_dict(), tmp_path / "guided.pt")
    method = build_method(
        {"class_path": "DDFM", "init_args": {"prior": str(tmp_path / "guided.pt"), "sampling_steps": 3}}
    )
    assert isinstance(method, DDFM)
    state = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        for level in method.levels:  # at the times it was taught it is asked for them
            clean, noise = method.prior.predict(state, level)
            told = network(state, torch.tensor([level.t, level.t]))
            expected = remove_noise(state, told, level.alpha_bar).clamp(-1, 1)
            torch.testing.assert_close(clean, expected, atol=2e-2 if level.t > 900 else 1e-4, rtol=0)
            torch.testing.assert_close(add_noise(clean, noise, level.alpha_bar), state, atol=1e-4, rtol=0)
        fused = method.fuse(make_batch(["one"], (9, 7)))["fused"]
    assert fused.shape == (1, 3, 9, 7)
    assert RFFusion(prior=str(tmp_path / "guided.pt")).fuse(make_batch(["one"], (9, 7)))["fused"].isfinite().all()


def test_another_network_s_weights_are_no_prior(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="holds no network of guided diffusion: give its file"):
        DDFM(prior=str(tmp_path / "other.pt"))
    state = GuidedUNet(32, (1, 2), (False, True)).state_dict()
    state["time_embed.0.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"does not fit GuidedUNet: .*time_embed.0.bias"):
        DDFM(prior=str(tmp_path / "other.pt"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"likelihood": "mine"}, "`likelihood` must be one of released, paper"),
        ({"sampling_steps": 0}, "`sampling_steps` must lie between 1 and 1000"),
        ({"prior": "missing.ckpt"}, "there is no checkpoint missing.ckpt"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_method(**options)


def test_it_has_no_knobs() -> None:
    with pytest.raises(UserError, match="DDFM has no strength or balance controls"):
        make_method().fuse(make_batch(["one"]), Controls(balance=0.1))
