"""CLED-Fusion's two stages: what they promise beyond the tested mathematics of their parts."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.errors import UserError
from fusion_lightning.methods import CLEDStage1, CLEDStage2, Controls, load_method

from ..conftest import save
from .conftest import make_batch

TINY = {"size": "tiny", "timesteps": 1000, "sampling_steps": 2}


@pytest.fixture(scope="module")
def trained() -> CLEDStage1:
    """A stage 1 overfitted to four pairs, whose last loss is a tenth of its first."""
    torch.manual_seed(0)
    batch = make_batch(["one", "two", "three", "four"], size=(16, 16))
    method = CLEDStage1(**TINY)
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    losses = []
    for step in range(250):
        totals = 0.0
        optimizer.zero_grad()
        for modality in ("a", "b"):
            source, clean = batch[f"source_{modality}"], batch[f"clean_{modality}"]
            parts, _ = method.restorer.losses(modality, source, clean, generators_for(batch["name"], step, modality))
            parts["residual"].backward()
            totals += float(parts["residual"])
        optimizer.step()
        losses.append(totals)
    method.losses_seen = losses
    return method.eval()


@pytest.mark.slow
def test_overfitting_four_pairs_drives_the_loss_down_tenfold(trained: CLEDStage1) -> None:
    first, last = trained.losses_seen[0], sum(trained.losses_seen[-10:]) / 10
    assert last < first / 10


@pytest.mark.slow
def test_removal_strength_is_monotone_from_the_input_to_the_clean_image(trained: CLEDStage1) -> None:
    batch = make_batch(["one", "two", "three", "four"], size=(16, 16))
    to_clean, to_input = [], []
    for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
        restored = trained.fuse(batch, Controls(strength_b=strength))["restored_b"]
        to_clean.append(float((restored - batch["clean_b"]).abs().mean()))
        to_input.append(float((restored - batch["source_b"]).abs().mean()))
    assert to_clean == sorted(to_clean, reverse=True)
    assert to_input == sorted(to_input)
    assert to_input[0] == 0


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (7, 5)])
@pytest.mark.parametrize("color", ["a", "b", None])
def test_any_size_and_grey_or_colour_sources(size: tuple[int, int], color: str | None) -> None:
    method = CLEDStage2(size="tiny", restorer=TINY).eval()
    batch = make_batch(["one"], size, color)
    with torch.no_grad():
        output = method.fuse(batch)
    assert output["fused"].shape == (1, 3, *size)
    for side in "ab":
        assert output[f"restored_{side}"].shape == batch[f"clean_{side}"].shape
    assert all(float(image.min()) >= 0 and float(image.max()) <= 1 for image in output.values())


def test_a_smaller_source_is_enlarged(batch: FusionBatch) -> None:
    batch["source_a"] = batch["source_a"][..., ::2, ::2]
    output = CLEDStage1(**TINY).fuse(batch)
    assert output["restored_a"].shape == batch["clean_a"].shape


def test_an_image_does_not_depend_on_its_batch() -> None:
    method = CLEDStage2(size="tiny", restorer=TINY).eval()
    torch.nn.init.normal_(method.restorer.residual_networks["shared"].head.weight, std=0.05)
    with torch.no_grad():
        together = method.fuse(make_batch(["one", "two"]))["fused"][1:]
        alone = method.fuse(make_batch(["two"]))["fused"]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_trajectory_satisfies_the_forward_equation(batch: FusionBatch) -> None:
    method = CLEDStage1(**{**TINY, "sampling_steps": 3})
    torch.nn.init.normal_(method.restorer.residual_networks["shared"].head.weight, std=0.05)
    for modality, steps in method.trajectory(batch).items():
        degraded = (batch[f"source_{modality}"] * 2 - 1).expand(-1, 3, -1, -1)
        assert [step.t for step in steps] == [999, 665, 332]
        for step in steps:
            alpha, beta, delta = method.restorer.schedule.at(step.t)
            rebuilt = step.restored + alpha * step.residual + beta * step.noise - delta * degraded
            torch.testing.assert_close(rebuilt, step.state, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["residual", "residual_and_noise"])
@pytest.mark.parametrize("shared_network", [True, False])
def test_every_parameter_of_stage_1_learns(batch: FusionBatch, objective: str, shared_network: bool) -> None:
    method = CLEDStage1(size="tiny", objective=objective, shared_network=shared_network)
    method.training_step(batch, 0).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in method.parameters())


def test_where_sampling_begins_training_sees_nothing_of_the_clean_image() -> None:
    """The true I_T holds 0.6 % of I_0, from which a network reads in training what it lacks when it restores."""
    restorer = CLEDStage1(size="tiny", sampling_steps=1, times="sampled", noise_scale=0.01).restorer
    batch = make_batch(["one", "two"], size=(16, 24))
    residuals = [
        restorer.losses("b", batch["source_b"], clean, generators_for(batch["name"], "b"))[1]
        for clean in (batch["clean_b"], 1 - batch["clean_b"])
    ]
    assert torch.equal(*residuals)


def test_both_modalities_in_one_batch_are_what_they_are_one_by_one() -> None:
    batch = make_batch(["one", "two"], size=(16, 24))
    restorer = CLEDStage1(**TINY).restorer
    sources = {"a": (batch["source_a"], batch["clean_a"]), "b": (batch["source_b"], batch["clean_b"])}

    def drawn(modality: str) -> list[torch.Generator]:
        return generators_for(batch["name"], modality)

    together = restorer.losses_of_all({key: (*pair, drawn(key)) for key, pair in sources.items()})
    restored = restorer.estimate_all({key: (source, drawn(key)) for key, (source, _) in sources.items()})
    for key, (source, clean) in sources.items():
        losses, residual = restorer.losses(key, source, clean, drawn(key))
        torch.testing.assert_close(together[key][0], losses, rtol=0, atol=1e-6)
        torch.testing.assert_close(together[key][1], residual, rtol=0, atol=1e-5)
        torch.testing.assert_close(restored[key], restorer.estimate(key, source, drawn(key)), rtol=0, atol=1e-5)


def test_stage_2_leaves_stage_1_alone(batch: FusionBatch) -> None:
    method = CLEDStage2(size="tiny", restorer=TINY).train()
    method.training_step(batch, 0).backward()
    assert not method.restorer.training
    assert all(parameter.grad is None for parameter in method.restorer.parameters())
    assert any(parameter.grad is not None for parameter in method.network.parameters())


def test_one_stage_trains_both_parts(batch: FusionBatch) -> None:
    method = CLEDStage2(size="tiny", one_stage=True).train()
    method.training_step(batch, 0).backward()
    assert all(part.head.weight.grad is not None for part in method.restorer.residual_networks.values())
    assert method.network.head.weight.grad is not None


def test_restored_sources_are_the_reference_where_no_clean_image_is_known() -> None:
    unknown, known = make_batch(["one"], known=False), make_batch(["one"])
    residual = torch.full_like(unknown["source_b"], 0.1)
    reference = CLEDStage2._reference(unknown, "b", unknown["source_b"], residual)
    torch.testing.assert_close(reference, (unknown["source_b"] - 0.1).clamp(0, 1))
    assert CLEDStage2._reference(known, "b", known["source_b"], residual) is known["clean_b"]


def test_balance_moves_the_fusion_towards_one_source(batch: FusionBatch) -> None:
    method = CLEDStage2(size="tiny", restorer=TINY).eval()

    def correlation(balance: float, side: str) -> float:
        with torch.no_grad():
            fused = method.fuse(batch, Controls(balance=balance))["fused"].mean(dim=1).flatten()
        return float(torch.corrcoef(torch.stack((fused, batch[f"source_{side}"].mean(dim=1).flatten())))[0, 1])

    balances = (0.0, 0.25, 0.5, 0.75, 1.0)
    towards_b = [correlation(balance, "b") for balance in balances]
    towards_a = [correlation(balance, "a") for balance in balances]
    assert towards_b == sorted(towards_b)
    assert towards_a == sorted(towards_a, reverse=True)


def test_stage_2_takes_stage_1_from_its_checkpoint_and_then_needs_it_no_more(
    tmp_path: Path, batch: FusionBatch
) -> None:
    stage1 = CLEDStage1(**TINY)
    torch.nn.init.normal_(stage1.restorer.residual_networks["shared"].head.weight, std=0.05)
    path = save(stage1, tmp_path / "stage1.ckpt")
    stage2 = CLEDStage2(stage1_checkpoint=path, size="tiny")
    for mine, theirs in zip(stage2.restorer.parameters(), stage1.restorer.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert not mine.requires_grad
    own = save(stage2, tmp_path / "stage2.ckpt")
    Path(path).unlink()
    again = load_method(own, CLEDStage2)
    with torch.no_grad():
        assert torch.equal(again.eval().fuse(batch)["fused"], stage2.eval().fuse(batch)["fused"])


def test_stage_2_refuses_what_is_not_stage_1(tmp_path: Path) -> None:
    path = save(CLEDStage2(size="tiny", restorer=TINY), tmp_path / "stage2.ckpt")
    with pytest.raises(UserError, match="holds a CLEDStage2, but a CLEDStage1 is needed"):
        CLEDStage2(stage1_checkpoint=path)
    with pytest.raises(UserError, match="needs `stage1_checkpoint`"):
        CLEDStage2()
    with pytest.raises(UserError, match="`restorer` must hold arguments"):
        CLEDStage2(restorer={"wide": True})


@pytest.mark.parametrize(
    ("controls", "words"),
    [({"strength_a": -1}, "strength_a"), ({"strength_b": 2}, "strength_b"), ({"balance": 2}, "balance")],
)
def test_controls_out_of_range_are_refused(controls: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Controls(**controls)


def test_stage_1_has_no_balance(batch: FusionBatch) -> None:
    with pytest.raises(UserError, match="no balance"):
        CLEDStage1(**TINY).fuse(batch, Controls(balance=0.2))
