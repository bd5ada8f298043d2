"""Registrations as methods: what is moved comes back, what cannot be trusted stays."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.degradations import degrade, parse, true_warps
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging import warps
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.methods import Average, ClassicalRegistration, RegistrationNet, RestoreThenFuse
from fusion_lightning.methods.registration import matching_loss
from fusion_lightning.metrics.functional import epe
from fusion_lightning.networks.registration import RegistrationNetwork, correlate, expected_shift, fit_affine
from fusion_lightning.zoo import FOR_SCANS, models

from ..imaging.test_registration import _scene


def _batch(seeds: list[int], text: str = "misalign", size: tuple[int, int] = (160, 200)) -> FusionBatch:
    a, b, clean, degradation = [], [], [], []
    for seed in seeds:
        scene = _scene(seed, size)[..., None]
        moved, effects = degrade(1 - scene, parse(text), np.random.default_rng(seed))
        a.append(to_tensor(moved))
        b.append(to_tensor(scene).expand(3, -1, -1))
        clean.append(to_tensor(1 - scene))
        degradation.append({"scenario": "misaligned", "a": effects, "b": []})
    return FusionBatch(
        source_a=torch.stack(a),
        source_b=torch.stack(b),
        clean_a=torch.stack(clean),
        clean_b=torch.stack(b),
        degradation=degradation,  # type: ignore[typeddict-item]
        name=[f"scene {seed}" for seed in seeds],
    )


def test_classical_registration_brings_pairs_together() -> None:
    batch = _batch([0, 1], "misalign(bend=0)")
    output = ClassicalRegistration()(batch)
    known = true_warps(batch)
    assert epe(output["warp_a"], known).max() < 1
    error = [
        (image - batch["clean_a"]).abs()[..., 20:-20, 20:-20].mean()
        for image in (batch["source_a"], output["restored_a"])
    ]
    assert error[1] < 0.3 * error[0]
    torch.testing.assert_close(output["restored_b"], batch["source_b"])


def test_a_pair_alone_is_aligned_as_in_a_batch() -> None:
    both, method = _batch([0, 1]), ClassicalRegistration()
    together = method(both)["warp_a"]
    torch.testing.assert_close(method(_batch([1]))["warp_a"], together[1:])


def test_it_stands_before_any_fusion() -> None:
    batch = _batch([0], "misalign(bend=0)")
    fused = RestoreThenFuse("ClassicalRegistration", "Average")(batch)["fused"]
    ideal = Average()(FusionBatch(**{**batch, "source_a": batch["clean_a"]}))["fused"]
    ghosts = Average()(batch)["fused"]
    inner = (..., slice(20, -20), slice(20, -20))
    assert (fused - ideal)[inner].abs().mean() < 0.4 * (ghosts - ideal)[inner].abs().mean()


@pytest.mark.parametrize("method", [ClassicalRegistration, RegistrationNet])
@pytest.mark.parametrize("case", ["black", "tiny"])
def test_what_cannot_be_registered_is_left_and_said(
    method: type[ClassicalRegistration | RegistrationNet], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    notice.cache_clear()
    batch = _batch([0], size=(16, 20) if case == "tiny" else (64, 80))
    if case == "black":
        batch["source_a"] = torch.zeros_like(batch["source_a"])
    output = method().eval()(batch)
    torch.testing.assert_close(output["restored_a"], batch["source_a"])
    assert "scene 0: source a is not aligned" in capsys.readouterr().err


def test_color_is_left_to_trained_networks(capsys: pytest.CaptureFixture[str]) -> None:
    notice.cache_clear()
    batch = _batch([0])
    colored = FusionBatch(**{**batch, "source_a": batch["source_b"], "source_b": batch["source_a"]})
    torch.testing.assert_close(ClassicalRegistration()(colored)["restored_a"], colored["source_a"])
    assert f"give {FOR_SCANS}, or swap the sources" in capsys.readouterr().err


def test_scans_are_left_to_the_model_that_was_trained_on_them(capsys: pytest.CaptureFixture[str]) -> None:
    notice.cache_clear()
    batch = _batch([0], "misalign(bend=0)")
    for key in ("source_a", "source_b"):
        batch[key] = torch.nn.functional.pad(batch[key], (8,) * 4)  # type: ignore[literal-required]
    torch.testing.assert_close(ClassicalRegistration()(batch)["restored_a"], batch["source_a"])
    assert f"whose edges are of different tissue: give {FOR_SCANS}" in capsys.readouterr().err
    assert models()[FOR_SCANS].task == "register"
    noise = torch.randn(batch["source_a"].shape, generator=torch.Generator().manual_seed(0)) * 14 / 255
    _, (reason,) = ClassicalRegistration().find_warps((batch["source_a"] + noise).clamp(0, 1), batch["source_b"])
    assert FOR_SCANS in (reason or "")
    # a night is dark, and not black
    batch["source_b"] = batch["source_b"].clamp(min=3 / 255)
    _, (reason,) = ClassicalRegistration().find_warps(batch["source_a"], batch["source_b"])
    assert FOR_SCANS not in (reason or "")


@pytest.mark.parametrize("looks", [1, 3])
def test_every_look_sees_what_the_last_one_left(looks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    method = RegistrationNet("tiny", looks=looks)
    seen = []

    def one_to_the_right(a: Tensor, b: Tensor) -> Tensor:
        seen.append(a)
        return warps.identity((160, 200), a) + torch.tensor([1.0, 0.0]).view(2, 1, 1)

    monkeypatch.setattr(method, "_look", one_to_the_right)
    batch = _batch([0], "identity")
    found, reasons = method.find_warps(batch["source_a"], batch["source_b"])
    assert reasons == [None]
    still = warps.identity((160, 200), found)
    torch.testing.assert_close((found - still).mean(dim=(0, 2, 3)), torch.tensor([float(looks), 0.0]))
    # a single look is checked by another one
    assert len(seen) == max(looks, 2)
    torch.testing.assert_close(seen[1][..., :-1], seen[0][..., 1:])
    method.least = looks + 0.5
    left, reasons = method.find_warps(batch["source_a"], batch["source_b"])
    torch.testing.assert_close(left, still)
    assert reasons == [f"it would move by {looks}.0 pixels only, which may be the network's own error"]


def test_without_a_look_there_is_no_registration() -> None:
    with pytest.raises(UserError, match="`looks` must be at least 1, but got 0"):
        RegistrationNet("tiny", looks=0)


def test_displacements_of_an_affine_map_give_that_map() -> None:
    matrix = torch.tensor([[[1.03, 0.02, -4.0], [-0.05, 0.98, 6.0]]])
    size = (96, 128)
    centres = warps.identity((12, 16), matrix) * 8 + 3.5
    moved = matrix[..., :2] @ centres.flatten(2) + matrix[..., 2:]
    displacement = moved.unflatten(2, (12, 16)) - centres
    found = fit_affine(displacement, torch.randn(1, 1, 12, 16), 8)
    apart = warps.from_affine(found, size) - warps.from_affine(matrix, size)
    assert apart.abs().max() < 0.02  # the ridge


def test_cells_find_where_they_came_from() -> None:
    features = torch.randn(1, 32, 12, 16)
    moved = features.roll((2, -1), dims=(-2, -1))  # what is at p lies at p + (−1, 2) of the moved
    shift = expected_shift(100 * correlate(moved, features, 4), 4)[..., 4:-4, 4:-4]
    torch.testing.assert_close(shift[:, 0], torch.full_like(shift[:, 0], -1.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(shift[:, 1], torch.full_like(shift[:, 1], 2.0), atol=1e-3, rtol=0)


def test_the_matching_loss_is_least_for_the_true_cells() -> None:
    known = warps.identity((64, 64), torch.zeros(())) + torch.tensor([16.0, -8.0]).view(2, 1, 1)
    matches = torch.zeros(1, 81, 8, 8)
    assert matching_loss(matches, known).item() == pytest.approx(np.log(81), rel=1e-5)
    matches[:, (4 - 1) * 9 + 4 + 2] = 50  # one cell up, two to the right
    assert matching_loss(matches, known).item() < 1e-6


@pytest.mark.parametrize("size", [(61, 75), (8, 9)])
def test_any_size_passes_through(size: tuple[int, int]) -> None:
    found = RegistrationNetwork("tiny")(torch.rand(2, 1, *size), torch.rand(2, 1, *size))
    assert found.warp.shape == (2, 2, *size)
    assert found.warp.isfinite().all()


def test_a_reduced_warp_is_enlarged_to_itself() -> None:
    method = RegistrationNet("tiny", reduction=2)
    matrix = torch.tensor([[[1.03, 0.02, -4.0], [-0.05, 0.98, 6.0]]])
    warp = warps.from_affine(matrix, (64, 80))
    back = method._enlarged(method._reduced_warp(warp), (64, 80))
    torch.testing.assert_close(back[..., 1:-1, 1:-1], warp[..., 1:-1, 1:-1], atol=1e-3, rtol=0)


@pytest.mark.slow
def test_it_learns_one_warp() -> None:
    batch = _batch([0], "misalign(shift=9, bend=1)", (96, 96))
    method = RegistrationNet("tiny", reduction=1, border=0, matching=0.3)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for step in range(120):
        optimizer.zero_grad()
        method.training_step(batch, step).backward()
        optimizer.step()
    known = true_warps(batch)
    found = method._look(batch["source_a"], batch["source_b"][:, :1])
    assert epe(found, known).item() < 0.8
    assert epe(warps.identity((96, 96), known), known).item() > 6


def test_a_warp_is_scored_where_it_is_known() -> None:
    batch = _batch([0, 1], "misalign(bend=0)")
    rows = ClassicalRegistration().test_step(batch, 0)["rows"]
    assert all(row["scores"]["EPE"] < 1 < row["scores"]["EPE_in"] for row in rows)
    assert "EPE" not in ClassicalRegistration().test_step(_batch([0], "noise"), 0)["rows"][0]["scores"]
