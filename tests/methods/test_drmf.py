"""DRMF: what composing two priors must and must not change."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.batch import FusionBatch, sources
from fusion_lightning.diffusion.denoising import implied_noise
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.losses.criteria import fusion_losses
from fusion_lightning.methods import DRMF, Controls, DiffusionRestorer, load_method

from ..conftest import save
from .conftest import check_that_images_are_independent, make_batch
from .test_diffusion_restorer import make_restorer


def make_method(restorer: DiffusionRestorer | None = None, **options: object) -> DRMF:
    """A tiny one whose priors and weights say something."""
    restorer = restorer or make_restorer(sampling_steps=3)
    method = DRMF(size="tiny", stage1=dict(restorer.hparams), **options).eval()  # type: ignore[arg-type]
    method.restorer.load_state_dict(restorer.restorer.state_dict())
    torch.nn.init.normal_(method.weights.noise_decoder.head.weight, std=0.3)
    method.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return method


def exchanged(batch: FusionBatch) -> FusionBatch:
    """The same pairs with a and b in each other's place."""
    a, b, clean_a, clean_b = batch["source_b"], batch["source_a"], batch["clean_b"], batch["clean_a"]
    return {**batch, "source_a": a, "source_b": b, "clean_a": clean_a, "clean_b": clean_b}


@pytest.mark.parametrize(("balance", "side"), [(0.0, "a"), (1.0, "b")])
@pytest.mark.parametrize("prediction", ["noise", "clean"])
def test_at_either_end_of_the_balance_it_is_that_prior_s_own_walk(balance: float, side: str, prediction: str) -> None:
    restorer = make_restorer(sampling_steps=3, prediction=prediction)
    batch, key = make_batch(["one", "two"], (16, 16), None), f"restored_{side}"
    with torch.no_grad():
        output = make_method(restorer).fuse(batch, Controls(balance=balance))
        alone = restorer.fuse(batch)
    assert torch.equal(output[key], alone[key])  # type: ignore[literal-required]
    assert (output["weight"] == 1 - balance).all()
    assert torch.equal(output["fused"], alone[key])  # type: ignore[literal-required]


def test_between_the_ends_the_balance_moves_the_weights() -> None:
    method, batch = make_method(), make_batch(["one"], (16, 16))
    with torch.no_grad():
        weights = [float(method.fuse(batch, Controls(balance=b))["weight"].mean()) for b in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert weights == sorted(weights, reverse=True)


def test_equal_priors_and_sources_give_that_prior_whatever_the_weights() -> None:
    restorer = make_restorer(sampling_steps=3, shared_network=True)
    batch = make_batch(["one"], (16, 16), None)
    batch["source_b"] = batch["source_a"]
    with torch.no_grad():
        output = make_method(restorer).fuse(batch)
        alone = restorer.fuse(batch)["restored_a"]
    assert float(output["weight"].std()) > 0.01
    torch.testing.assert_close(output["restored_a"], alone, atol=2e-5, rtol=0)


def test_sources_may_be_exchanged_with_their_priors_and_weights() -> None:
    restorer, batch = make_restorer(sampling_steps=3), make_batch(["one"], (16, 16))
    method = make_method(restorer)
    other = make_method(restorer)
    state = restorer.restorer.state_dict()
    swap = {"networks.a.": "networks.b.", "networks.b.": "networks.a."}
    other.restorer.load_state_dict({swap.get(key[:11], key[:11]) + key[11:]: value for key, value in state.items()})
    straight, forward = method.weights, method.weights.forward

    def reverse(state: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        a, b, weight = state.split((3, 3, 1), dim=1)
        return -forward(torch.cat((b, a, 1 - weight), dim=1), time)

    other.weights.forward = reverse  # type: ignore[method-assign]
    with torch.no_grad():
        one, two = method.fuse(batch), other.fuse(exchanged(batch))
    assert straight is method.weights
    torch.testing.assert_close(one["weight"], 1 - two["weight"], atol=1e-5, rtol=0)
    torch.testing.assert_close(one["fused"], two["fused"], atol=1e-5, rtol=0)


def test_every_step_lies_between_the_priors_and_shares_their_noise() -> None:
    method, batch = make_method(), make_batch(["one", "two"], (9, 14))
    with torch.no_grad():
        steps = list(method.steps(*sources(batch), generators_for(batch["name"], 0)))
    assert [step.level.t for step in steps] == [999, 665, 332]
    assert (steps[0].weight == 0.5).all()
    assert all(float(step.weight.std()) > 0.01 for step in steps[1:])
    for step in steps:
        low, high = torch.minimum(step.a, step.b), torch.maximum(step.a, step.b)
        assert (step.fused >= low - 1e-6).all()
        assert (step.fused <= high + 1e-6).all()


def test_the_weights_alone_learn() -> None:
    method, batch = make_method().train(), make_batch(["one", "two"], (16, 16))
    before = {name: value.clone() for name, value in method.restorer.state_dict().items()}
    optimizer = method.configure_optimizers()
    method.training_step(batch, 0).backward()
    assert not method.restorer.training
    assert all(parameter.grad is None for parameter in method.restorer.parameters())
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.weights.parameters()
    )
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in method.restorer.state_dict().items())


def test_mixed_precision_learns_too_and_keeps_the_walk_in_float32() -> None:
    method, batch = make_method().train(), make_batch(["one", "two"], (16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        method.training_step(batch, 0).backward()
        step = next(iter(method.steps(*sources(batch), generators_for(batch["name"], 0))))
    assert all(parameter.grad is not None for parameter in method.weights.parameters())
    assert step.fused.dtype == torch.float32


def test_perfect_priors_and_weights_give_the_maximum() -> None:
    batch = make_batch(["one"], (16, 16), None)
    batch["clean_a"], batch["clean_b"] = batch["source_a"], batch["source_b"]
    method = make_method()
    alpha_bar = method.restorer.denoiser.schedule.alpha_bar

    def oracle(modality: str, state: torch.Tensor, y: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return implied_noise(state, y, alpha_bar[int(time)])

    method.restorer.output = oracle  # type: ignore[method-assign, assignment]
    brighter = (batch["source_a"] > batch["source_b"]).float() * 60 - 30
    method.weights.forward = lambda state, time: brighter  # type: ignore[method-assign, assignment]
    fused = method.fuse(batch)["fused"]
    torch.testing.assert_close(fused, torch.maximum(batch["source_a"], batch["source_b"]), atol=1e-3, rtol=0)
    assert float(fusion_losses("maximum", fused, batch["clean_a"], batch["clean_b"])["intensity"]) < 1e-3


def test_untrained_on_untrained_corrections_it_is_the_mean() -> None:
    restorer = DiffusionRestorer("tiny", sampling_steps=3, prediction="clean")
    batch = make_batch(["one"], (7, 5), None)
    output = DRMF(size="tiny", stage1=dict(restorer.hparams)).eval().fuse(batch)
    torch.testing.assert_close(output["fused"], (batch["source_a"] + batch["source_b"]) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("color", ["a", "b", None])
def test_grey_and_colour(color: str | None) -> None:
    batch = make_batch(["one"], (9, 14), color)
    with torch.no_grad():
        output = make_method().fuse(batch)
    assert output["fused"].shape == (1, 1 if color is None else 3, 9, 14)
    for image in output.values():
        assert 0 <= float(image.min()) <= float(image.max()) <= 1  # type: ignore[attr-defined]


def test_an_image_does_not_depend_on_its_batch() -> None:
    check_that_images_are_independent(make_method())


def test_stage_1_comes_from_its_checkpoint_and_then_lives_in_that_of_stage_2(tmp_path: Path) -> None:
    restorer, batch = make_restorer(sampling_steps=2), make_batch(["one"], (16, 16))
    path = save(restorer, tmp_path / "stage1.ckpt")
    method = DRMF(stage1_checkpoint=path, size="tiny").eval()
    for mine, theirs in zip(method.restorer.parameters(), restorer.restorer.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    own = save(method, tmp_path / "stage2.ckpt")
    Path(path).unlink()
    with torch.no_grad():
        assert torch.equal(load_method(own, DRMF).eval().fuse(batch)["fused"], method.fuse(batch)["fused"])


def test_stage_1_must_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DRMF needs `stage1_checkpoint`: give the"):
        DRMF(size="tiny")
    with pytest.raises(UserError, match="`stage1` must hold arguments of DiffusionRestorer"):
        DRMF(size="tiny", stage1={"wide": True})
    with pytest.raises(UserError, match="train its stage 1 with `luma: false` and at least 2 `sampling_steps`"):
        DRMF(size="tiny", stage1={"size": "tiny", "luma": True})
    other = save(make_method(), tmp_path / "stage2.ckpt")
    with pytest.raises(UserError, match="holds a DRMF, but a DiffusionRestorer is needed"):
        DRMF(stage1_checkpoint=other, size="tiny")


def test_the_trajectory_ends_at_the_fusion() -> None:
    method, batch = make_method(), make_batch(["one", "two"], (16, 16), None)
    rows, labels = method.trajectory_sheet(batch)
    with torch.no_grad():
        output = method.fuse(batch)
    assert (len(rows), len(labels)) == (3, 4)
    torch.testing.assert_close(rows[-1][3], output["weight"][0])
    torch.testing.assert_close(rows[-1][2].mean(dim=0, keepdim=True), output["fused"][0], atol=1e-5, rtol=0)


def test_it_has_a_balance_and_no_strength() -> None:
    with pytest.raises(UserError, match="DRMF has no strength controls: leave them at 1"):
        make_method().fuse(make_batch(["one"]), Controls(strength_a=0.5))
