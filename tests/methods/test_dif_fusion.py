"""Dif-Fusion: a prior that stays as it is, and a head that sees every scale of it."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import as_rgb, rgb_to_luma
from fusion_lightning.methods import Controls, DifFusionStage1, DifFusionStage2, load_method
from fusion_lightning.methods.dif_fusion import stack
from fusion_lightning.networks.diffusion_head import DiffusionHead

from ..conftest import save
from .conftest import make_batch


def make_stage1() -> DifFusionStage1:
    """A tiny prior that says something."""
    method = DifFusionStage1(size="tiny").eval()
    torch.nn.init.normal_(method.prior.network.noise_decoder.head.weight, std=0.1)
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


def make_method(**options: object) -> DifFusionStage2:
    """A tiny one whose prior and head are random."""
    stage1 = make_stage1()
    method = DifFusionStage2(stage1=dict(stage1.hparams), **options).eval()  # type: ignore[arg-type]
    method.prior.load_state_dict(stage1.prior.state_dict())
    torch.nn.init.normal_(method.head.paint[-1].weight, std=0.3)  # type: ignore[arg-type]
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


def test_the_stack_is_the_same_whichever_source_carries_the_colour() -> None:
    colour, grey = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    assert torch.equal(stack(colour, grey), stack(grey, colour))
    assert torch.equal(stack(grey, colour), 2 * torch.cat((colour, grey), dim=1) - 1)
    other = torch.rand(2, 1, 4, 4)
    assert torch.equal(stack(grey, other), 2 * torch.cat((other, other, other, grey), dim=1) - 1)


def test_the_prior_is_unbiased_about_its_colours() -> None:
    """Turned into opponent colours and back: whoever predicts the turned noise predicts the noise."""
    prior, x = make_stage1().prior, torch.rand(1, 4, 8, 8) * 2 - 1
    drawn = prior.denoiser.draw(x, generators_for(["one"]))
    prior.network.forward = lambda state, time: prior._turned(drawn.noise)  # type: ignore[method-assign, assignment]
    torch.testing.assert_close(prior.noise(drawn.state, drawn.t.float()), drawn.noise, atol=1e-6, rtol=0)
    assert float(prior.loss(x, generators_for(["one"]))) < 1e-10


@pytest.mark.parametrize("color", ["a", "b", None])
def test_who_knows_the_noise_sees_the_sources(color: str | None) -> None:
    method, batch = make_stage1(), make_batch(["one"], (9, 14), color)
    x = stack(batch["source_a"], batch["source_b"])
    alpha_bar = method.prior.denoiser.schedule.alpha_bar

    def oracle(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        assert int(time) == 100
        return (state - alpha_bar[100].sqrt() * x) / (1 - alpha_bar[100]).sqrt()

    method.prior.noise = oracle  # type: ignore[method-assign]
    output = method.fuse(batch)
    torch.testing.assert_close(output["restored_a"], batch["source_a"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output["restored_b"], batch["source_b"], atol=1e-5, rtol=0)


def test_every_parameter_of_stage_1_learns() -> None:
    method = make_stage1()
    method.training_step(make_batch(["one", "two"], (16, 16)), 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize(("size", "color"), [((16, 16), "b"), ((9, 14), "a"), ((7, 5), None)])
def test_an_untrained_head_paints_mid_grey(size: tuple[int, int], color: str | None) -> None:
    fused = DifFusionStage2(stage1={"size": "tiny"}).eval().fuse(make_batch(["one"], size, color))["fused"]
    assert fused.shape == (1, 1 if color is None else 3, *size)
    torch.testing.assert_close(fused, torch.full_like(fused, 0.5), atol=1e-7, rtol=0)


def test_the_head_is_asked_about_every_scale_and_time() -> None:
    method = make_method(feature_times=(5, 50, 100))
    seen: list[int] = []
    for mixer in method.head.mixers:
        mixer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1:]))
    batch = make_batch(["one"], (16, 24))
    with torch.no_grad():
        fused = method.fuse(batch)["fused"]
        assert seen == [(384, 2, 3), (192, 4, 6), (96, 8, 12), (48, 16, 24)]
        other = make_method(feature_times=(5, 50, 101))
        other.load_state_dict(method.state_dict())
        assert not torch.equal(other.fuse(batch)["fused"], fused)


def test_every_scale_reaches_picture_and_gradient() -> None:
    """The finest above all, whose features the published code computes and throws away."""
    head = DiffusionHead((4, 8, 16, 32), levels=2)
    torch.nn.init.normal_(head.paint[-1].weight)  # type: ignore[arg-type]
    maps = [[torch.rand(1, 4 << (3 - k), 2 << k, 2 << k, requires_grad=True) for k in range(4)] for _ in range(2)]
    picture = head(maps, (15, 13))
    assert picture.shape == (1, 3, 15, 13)
    picture.square().sum().backward()
    assert all(one.grad is not None and float(one.grad.abs().max()) > 0 for level in maps for one in level)
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_training_leaves_the_prior_alone() -> None:
    method, batch = make_method().train(), make_batch(["one", "two"], (16, 16))
    before = {name: value.clone() for name, value in method.prior.state_dict().items()}
    head = [parameter.clone() for parameter in method.head.parameters()]
    optimizer = method.configure_optimizers()
    for _ in range(5):
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert not method.prior.training
    assert all(parameter.grad is None for parameter in method.prior.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.prior.state_dict().items())
    assert all(not torch.equal(one, other) for one, other in zip(head, method.head.parameters(), strict=True))


def test_the_loss_does_not_tell_colours_apart() -> None:
    batch = make_batch(["one"], (16, 16))
    method = make_method()
    painted = torch.rand(1, 3, 16, 16)

    def loss(order: list[int]) -> float:
        method._paint = lambda *args: painted[:, order]  # type: ignore[method-assign]
        return float(method.training_step({**batch, "clean_b": batch["clean_b"][:, order]}, 0))

    assert loss([0, 1, 2]) == pytest.approx(loss([2, 0, 1]), rel=1e-5)
    method._paint = lambda *args: painted[:, [2, 0, 1]]  # type: ignore[method-assign]
    assert float(method.training_step(batch, 0)) != pytest.approx(loss([0, 1, 2]), rel=1e-3)


def test_the_intensity_loss_is_the_distance_to_the_brighter_source_channel_by_channel() -> None:
    batch, method = make_batch(["one"], (16, 16)), make_method(gradient=0.0)
    brighter = torch.maximum(as_rgb(batch["clean_a"]), batch["clean_b"])
    method._paint = lambda *args: brighter  # type: ignore[method-assign]
    assert float(method.training_step(batch, 0)) == 0
    method._paint = lambda *args: brighter + torch.tensor([0.0, 0.3, 0.0]).view(1, 3, 1, 1)  # type: ignore[method-assign]
    assert float(method.training_step(batch, 0)) == pytest.approx(0.1, abs=1e-5)


def test_the_same_image_twice_and_in_another_batch() -> None:
    method = make_method()
    with torch.no_grad():
        together = method.fuse(make_batch(["one", "two"], (16, 16)))["fused"][1:]
        alone, again = (method.fuse(make_batch(["two"], (16, 16)))["fused"] for _ in range(2))
    assert torch.equal(alone, again)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_grey_pairs_stay_grey() -> None:
    method, batch = make_method(), make_batch(["one"], (16, 16), None)
    with torch.no_grad():
        fused = method.fuse(batch)["fused"]
        painted = method._paint(batch["source_a"], batch["source_b"], generators_for(batch["name"], 0))
    torch.testing.assert_close(fused, rgb_to_luma(painted))


def test_stage_1_comes_from_its_checkpoint_and_then_lives_in_that_of_stage_2(tmp_path: Path) -> None:
    batch, path = make_batch(["one"], (16, 16)), save(make_stage1(), tmp_path / "stage1.ckpt")
    method = DifFusionStage2(stage1_checkpoint=path).eval()
    torch.nn.init.normal_(method.head.paint[-1].weight, std=0.3)  # type: ignore[arg-type]
    own = save(method, tmp_path / "stage2.ckpt")
    Path(path).unlink()
    with torch.no_grad():
        assert torch.equal(load_method(own).eval().fuse(batch)["fused"], method.fuse(batch)["fused"])


@pytest.mark.parametrize("times", [(), (5, 2000), (-1,)])
def test_times_out_of_range_are_refused(times: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="`feature_times` must lie between 0 and 1999, but got"):
        DifFusionStage2(stage1={"size": "tiny"}, feature_times=times)


def test_it_has_no_knobs() -> None:
    for method in (make_stage1(), make_method()):
        with pytest.raises(UserError, match="has no strength or balance controls"):
            method.fuse(make_batch(["one"]), Controls(balance=0.1))
