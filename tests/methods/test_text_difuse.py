"""Text-DiFuse: what mixing the maps of one diffusion must and must not change."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.batch import known_clean, sources
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.methods import Controls, DiffusionRestorer, TextDiFuse, load_method

from ..conftest import save
from .conftest import check_that_images_are_independent, make_batch
from .test_diffusion_restorer import make_restorer


def make_stage1(**options: object) -> DiffusionRestorer:
    return make_restorer(**{"luma": True, "shared_network": True, "sampling_steps": 3, **options})


def make_method(restorer: DiffusionRestorer | None = None, says: bool = True) -> TextDiFuse:
    """A tiny one whose diffusion, and control if it `says` something, are random."""
    restorer = restorer or make_stage1()
    method = TextDiFuse(stage1=dict(restorer.hparams)).eval()
    method.restorer.load_state_dict(restorer.restorer.state_dict())
    for level in method.control.levels if says else ():
        for branch in level.branches:
            torch.nn.init.normal_(branch[-1].weight, std=0.3)
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_one_source_twice_is_that_source_restored(prediction: str) -> None:
    """The untrained control gives both halves of the same maps."""
    restorer = make_stage1(prediction=prediction)
    batch = make_batch(["one"], (9, 14), None)
    batch["source_b"] = batch["source_a"]
    with torch.no_grad():
        fused = make_method(restorer, says=False).fuse(batch)["fused"]
        alone = restorer.fuse(batch)["restored_a"]
    assert torch.equal(fused, alone)


def test_the_untrained_control_takes_the_mean_of_maps_which_is_not_the_mean_of_images() -> None:
    restorer, batch = make_stage1(prediction="clean"), make_batch(["one"], (16, 16), None)
    method = make_method(restorer, says=False)
    with torch.no_grad():
        fused, alone = method.fuse(batch)["fused"], restorer.fuse(batch)
        maps = [[torch.rand(1, width, 4, 4) for width in (16, 32, 64, 128)] for _ in "ab"]
        for w_a, w_b in method.control(*maps):
            assert (w_a == 0.5).all()
            assert (w_b == 0.5).all()
    mean = (alone["restored_a"] + alone["restored_b"]) / 2
    assert float((fused - mean).abs().mean()) > 0.01


@pytest.mark.parametrize(("balance", "side"), [(0.0, "a"), (1.0, "b")])
@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_at_either_end_of_the_balance_a_source_is_restored_alone(balance: float, side: str, prediction: str) -> None:
    restorer = make_stage1(prediction=prediction)
    batch = make_batch(["one", "two"], (16, 16), None)
    with torch.no_grad():
        fused = make_method(restorer).fuse(batch, Controls(balance=balance))["fused"]
        alone = restorer.fuse(batch)[f"restored_{side}"]  # type: ignore[literal-required]
    assert torch.equal(fused, alone)


def test_between_the_ends_the_balance_moves_the_fusion() -> None:
    method, batch = make_method(make_stage1(prediction="clean")), make_batch(["one"], (16, 16), None)
    with torch.no_grad():
        images = [method.fuse(batch, Controls(balance=b))["fused"] for b in (0.0, 0.25, 0.5, 0.75, 1.0)]
    from_a = [float((image - images[0]).abs().mean()) for image in images]
    assert from_a == sorted(from_a)
    assert from_a[-1] > 0.01


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_control_alone_learns_at_every_time(precision: torch.dtype) -> None:
    """Also in mixed precision, at the walk's last time, when the control's weights were cast without a gradient."""
    method, batch = make_method().train(), make_batch(["one", "two"], (16, 16))
    for last in (999, 332):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            walk = method.steps(*sources(batch), generators_for(batch["name"], 0), learn_at=last)
            step = next(one for one in walk if one.level.t == last)
            step.clean.square().mean().backward()
        assert step.clean.dtype == torch.float32
        assert not method.restorer.training
        assert all(parameter.grad is None for parameter in method.restorer.parameters())
        for parameter in method.control.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            parameter.grad = None


def test_training_visits_every_time_and_leaves_the_diffusion_alone() -> None:
    method, batch = make_method().train(), make_batch(["one"], (8, 8))
    before = {name: value.clone() for name, value in method.restorer.state_dict().items()}
    seen = set()
    steps = method.steps

    def watched(*args: object, **kwargs: object) -> object:
        seen.add(kwargs["learn_at"])
        return steps(*args, **kwargs)  # type: ignore[arg-type]

    method.steps = watched  # type: ignore[method-assign, assignment]
    optimizer = method.configure_optimizers()
    for seed in range(8):
        method.seed = seed
        optimizer.zero_grad()
        method.training_step(batch, 0).backward()
        optimizer.step()
    assert seen == {999, 665, 332}
    assert all(torch.equal(value, before[name]) for name, value in method.restorer.state_dict().items())


def test_targets_are_clean_where_they_are_known_else_restored() -> None:
    restorer = make_stage1(prediction="clean")
    method, batch = make_method(restorer), make_batch(["one", "two"], (16, 16))
    batch["degradation"][1]["scenario"] = "delivered"
    batch["clean_a"][1], batch["clean_b"][1] = batch["source_a"][1], batch["source_b"][1]
    assert known_clean(batch, "a").tolist() == [True, False]
    with torch.no_grad():
        target_a, target_b = method._targets(batch)
        restored = restorer.fuse(make_batch(["two"], (16, 16)))
    assert torch.equal(target_b[:1], rgb_to_luma(batch["clean_b"][:1]))
    torch.testing.assert_close(target_a[1:], restored["restored_a"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "color"), [((9, 14), "a"), ((7, 5), "b"), ((48, 64), None)])
def test_any_size_and_the_delivered_colours(size: tuple[int, int], color: str | None) -> None:
    batch = make_batch(["one"], size, color)
    if color:
        batch[f"source_{color}"] = 0.1 * batch[f"source_{color}"] + 0.45  # type: ignore[literal-required]
    with torch.no_grad():
        fused = make_method(make_stage1(prediction="clean")).fuse(batch)["fused"]
    assert fused.shape == (1, 1 if color is None else 3, *size)
    if color:
        inside = (fused > 0).all(dim=1, keepdim=True) & (fused < 1).all(dim=1, keepdim=True)
        colours = (rgb_to_cbcr(fused) - rgb_to_cbcr(batch[f"source_{color}"])).abs()  # type: ignore[literal-required]
        assert float(inside.float().mean()) > 0.3
        assert float(colours[inside.expand_as(colours)].max()) < 1e-4


def test_an_image_does_not_depend_on_its_batch() -> None:
    check_that_images_are_independent(make_method())


def test_stage_1_comes_from_its_checkpoint_and_then_lives_in_that_of_stage_2(tmp_path: Path) -> None:
    restorer, batch = make_stage1(), make_batch(["one"], (16, 16))
    path = save(restorer, tmp_path / "stage1.ckpt")
    method = TextDiFuse(stage1_checkpoint=path).eval()
    own = save(method, tmp_path / "stage2.ckpt")
    Path(path).unlink()
    with torch.no_grad():
        assert torch.equal(load_method(own, TextDiFuse).eval().fuse(batch)["fused"], method.fuse(batch)["fused"])


def test_stage_1_must_fit() -> None:
    for wrong in ({"luma": False}, {"shared_network": False}):
        with pytest.raises(UserError, match="train its stage 1 with `luma: true` and `shared_network: true`"):
            TextDiFuse(stage1={"size": "tiny", "luma": True, "shared_network": True, **wrong})


def test_the_trajectory_ends_at_the_fusion() -> None:
    method, batch = make_method(), make_batch(["one", "two"], (16, 16), None)
    rows, labels = method.trajectory_sheet(batch)
    with torch.no_grad():
        fused = method.fuse(batch)["fused"]
    assert (len(rows), len(labels)) == (3, 2)
    torch.testing.assert_close(rows[-1][1], fused[0], atol=1e-5, rtol=0)


def test_it_has_a_balance_and_no_strength() -> None:
    with pytest.raises(UserError, match="TextDiFuse has no strength controls: leave them at 1"):
        make_method().fuse(make_batch(["one"], (8, 8)), Controls(strength_b=0.5))
