"""Estimators: what they find, how they are scored, that the network learns; and methods that are told what is found."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch, SampleDegradation
from fusion_lightning.degradations import degrade, parse
from fusion_lightning.degradations.labels import KINDS, planned
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.convert import to_tensor
from fusion_lightning.methods import (
    Blind,
    ClassicalEstimator,
    ClassicalRestorer,
    Controls,
    DegradationEstimator,
    DRFusion,
    RestoreThenFuse,
)
from fusion_lightning.methods.degradation_estimator import _likeliest, distance
from fusion_lightning.networks.degradation_estimator import STATISTICS, statistics

from ..conftest import save
from ..imaging.test_estimation import drawn
from .conftest import make_batch


def pair(specification: str, side: int = 96) -> FusionBatch:
    """A drawn pair, both sources degraded alike; grey and in colour."""
    rows, columns = np.mgrid[0:side, 0:side]
    grey = drawn()[rows, columns]
    color = np.concatenate((grey, grey**2, 1 - grey), axis=2)
    degraded = [
        degrade(image, parse(specification), np.random.default_rng(seed)) for seed, image in enumerate((grey, color))
    ]
    (a, effects_a), (b, effects_b) = degraded
    return FusionBatch(
        source_a=to_tensor(a)[None],
        source_b=to_tensor(b)[None],
        clean_a=to_tensor(grey)[None],
        clean_b=to_tensor(color)[None],
        degradation=[SampleDegradation(scenario="x", a=effects_a, b=effects_b)],
        name=["one"],
    )


def test_textbook_rules_find_noise_and_blur_in_grey_and_in_colour() -> None:
    estimator = ClassicalEstimator()
    for text, kinds in (
        ("identity", set()),
        ("noise(sigma=14)", {"noise"}),
        ("blur(sigma=2.5)", {"blur"}),
        ("blur(sigma=2.5)+noise(sigma=14)", {"blur", "noise"}),
    ):
        batch = pair(text)
        for source in (batch["source_a"], batch["source_b"]):
            (found,) = estimator.estimate(source)
            assert set(found.kinds) == kinds, text
            assert math.isnan(found.confidence)
            if "noise" in kinds:
                assert found.kinds["noise"] == pytest.approx(14, abs=1.5)
            if "blur" in kinds:
                assert found.kinds["blur"] == pytest.approx(2.5, abs=0.6)


def test_an_estimator_is_scored_by_what_it_names() -> None:
    rows = ClassicalEstimator().test_step(pair("noise(sigma=14)"), 0)["rows"]
    scores = rows[0]["scores"]
    assert scores["right_a"] == scores["right_b"] == 1
    assert scores["error_noise_a"] < 1.5
    assert ClassicalEstimator().test_step(pair("haze@5"), 0)["rows"][0]["scores"]["right_a"] == 0
    assert distance("haze", 0.03, 0.085) == 2
    assert distance("blur", 1.5, 2.0) == 0.5


def test_a_smaller_source_was_averaged() -> None:
    batch = pair("blur(sigma=4)+downsample(2)+noise(sigma=10)", 192)
    batch["source_b"] = batch["clean_b"]
    (texts,) = ClassicalEstimator(least_blur=1.0).pair_texts(batch)
    names = [effect["name"] for effect in planned(texts["a"])]
    assert names == ["blur", "downsample", "noise"]
    assert planned(texts["a"])[0]["params"]["sigma"] == pytest.approx(4, abs=1)
    assert texts["b"] == "identity"


def test_statistics_are_finite_and_of_any_size() -> None:
    for image in (torch.zeros(1, 1, 64, 64), torch.ones(2, 3, 64, 150), torch.rand(1, 3, 97, 64)):
        found = statistics(image)
        assert found.shape == (len(image), STATISTICS)
        assert found.isfinite().all()
    network, textbook = DegradationEstimator().eval(), ClassicalEstimator()
    for size in ((1, 1), (3, 200), (64, 65)):
        image = torch.rand(1, 1, *size)
        (found,) = network.estimate(image)
        assert 0 <= found.confidence <= 1
        assert parse(textbook.estimate(image)[0].text())


def test_a_batch_is_what_its_images_are_alone() -> None:
    network = DegradationEstimator().eval()
    images = torch.rand(3, 3, 70, 66)
    together, alone = network.estimate(images), [network.estimate(one[None])[0] for one in images]
    for one, other in zip(together, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_a_grey_image_repeated_in_three_channels_is_the_same() -> None:
    grey = torch.rand(1, 1, 80, 80)
    torch.testing.assert_close(statistics(grey), statistics(grey.expand(-1, 3, -1, -1)), atol=2e-3, rtol=1e-3)


def test_the_network_learns_noise_from_what_was_applied() -> None:
    """A real training of 50 steps on drawn pairs: noise is told from clean, and how strong it is."""
    method = DegradationEstimator(width=32)
    method.log_dict = lambda losses, **kwargs: None  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    generator = np.random.default_rng(0)
    for step in range(50):
        batches = [pair(f"noise(sigma={generator.uniform(4, 40)})" if one % 2 else "identity", 64) for one in range(4)]
        for key in ("source_a", "source_b"):
            shift = int(generator.integers(64))
            for one in batches:
                one[key] = one[key].roll(shift, dims=-1)  # type: ignore[literal-required]
        batch = {key: _joined([one[key] for one in batches]) for key in batches[0]}  # type: ignore[literal-required]
        optimizer.zero_grad()
        method.training_step(batch, step).backward()  # type: ignore[arg-type]
        optimizer.step()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in method.parameters())
    method.eval()
    (noisy,), (clean,) = (method.estimate(pair(text, 80)["source_a"]) for text in ("noise(sigma=15)", "identity"))
    assert set(noisy.kinds) == {"noise"}
    assert noisy.kinds["noise"] == pytest.approx(15, rel=0.25)
    assert clean.kinds == {}
    assert noisy.confidence > 0.7


def _joined(values: list[object]) -> object:
    if isinstance(values[0], Tensor):
        return torch.cat(values)  # type: ignore[arg-type]
    return [entry for value in values for entry in value]  # type: ignore[attr-defined]


def test_of_several_blurs_the_likeliest_counts() -> None:
    """Under noise nobody tells one blur from another; that there is one can be told."""
    nothing = dict.fromkeys(KINDS, 0.01)
    assert _likeliest(nothing) == (set(), pytest.approx(0.96, abs=0.01))
    soft = {**nothing, "noise": 0.9, "blur": 0.4, "downsample": 0.35, "defocus": 0.1}
    present, confidence = _likeliest(soft)
    assert present == {"noise", "blur"}
    assert confidence == pytest.approx(0.4, abs=0.01)
    assert _likeliest({**nothing, "blur": 0.8, "defocus": 0.7})[0] == {"blur"}
    assert _likeliest({**nothing, "blur": 0.3, "haze": 0.4}) == (set(), pytest.approx(0.6))


def test_noise_is_measured_unless_something_came_after_it() -> None:
    method = DegradationEstimator(width=16).eval()
    image = pair("noise(sigma=14)")["source_a"]
    with torch.no_grad():
        for name in method.network.state_dict():
            method.network.state_dict()[name].zero_()
        bias = method.network.line.bias
        bias[: len(KINDS)] = -9
        bias[list(KINDS).index("noise")] = 9
        (measured,) = method.estimate(image)
        bias[list(KINDS).index("jpeg")] = 9
        (learned,) = method.estimate(image)
        bias[list(KINDS).index("jpeg")] = -9
        (dark,) = method.estimate((image - 0.5).clamp(0, 1))
    assert measured.kinds == {"noise": pytest.approx(14, abs=1)}
    for one in (learned, dark):
        assert one.kinds["noise"] == pytest.approx((1.5 * 80) ** 0.5, rel=1e-4)  # the middle of the scale


def test_what_has_many_grey_levels_was_not_quantised() -> None:
    """A stretched histogram has gaps, too, but more levels than quantising leaves."""
    method = DegradationEstimator(width=16).eval()
    with torch.no_grad():
        for name in method.network.state_dict():
            method.network.state_dict()[name].zero_()
        method.network.line.bias[: len(KINDS)] = -9
        method.network.line.bias[list(KINDS).index("quantize")] = 9
    for color in (1, 3):
        levels = (torch.arange(96 * 96) % 250).view(1, 1, 96, 96).expand(-1, color, -1, -1) / 255
        (many,), (few,) = method.estimate(levels), method.estimate((levels * 15).round() / 15)
        assert (set(many.kinds), set(few.kinds)) == (set(), {"quantize"})
        assert many.probabilities["quantize"] == 0
        assert many.confidence > 0.99
        one = levels.clone()
        one[:, -1] = 0.5
        (found,) = method.estimate(one)
        assert ("quantize" in found.kinds) == (color == 1)


def test_every_kind_has_its_place_in_the_loss() -> None:
    method = DegradationEstimator(width=16)
    for name in KINDS:
        batch = make_batch(["one", "two"], (64, 64))
        for one in batch["degradation"]:
            one["a"] = one["b"] = planned(f"{name}@3")
        parts = method._losses(batch["source_a"], batch["degradation"], "a")
        assert all(part.isfinite() for part in parts)
        assert float(parts[1].detach()) > 0
        assert (float(parts[2].detach()) > 0) == (name == "motion_blur")


def test_blind_is_the_method_told_what_is_found() -> None:
    batch = pair("noise(sigma=14)")
    estimator = ClassicalEstimator()
    blind = Blind("RestoreThenFuse", "ClassicalEstimator")
    found = estimator.estimated(batch)
    told = RestoreThenFuse().fuse(found)
    assert torch.equal(blind.fuse(batch)["fused"], told["fused"])
    nothing = {**batch, "degradation": [SampleDegradation(scenario="delivered", a=[], b=[])]}
    assert torch.equal(blind.fuse(nothing)["fused"], told["fused"])  # type: ignore[arg-type]
    assert torch.equal(estimator.fuse(batch)["restored_b"], ClassicalRestorer().fuse(found)["restored_b"])


def test_blind_comes_from_checkpoints(tmp_path: Path) -> None:
    method = DRFusion(size="tiny")
    torch.nn.init.normal_(method.network.noise_decoder.head.weight, std=0.05)
    parts = save(method, tmp_path / "drfusion.ckpt"), save(DegradationEstimator(), tmp_path / "estimator.ckpt")
    blind = Blind(*parts)
    assert not any(one.requires_grad for one in blind.parameters())
    with torch.no_grad():
        output = blind.fuse(pair("blur(sigma=2)", 64))
    assert output["fused"].shape == (1, 3, 64, 64)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="`estimator` must estimate degradations, but Average does not"):
        Blind(estimator="Average")
    with pytest.raises(UserError, match="has to be trained first"):
        Blind(estimator="DegradationEstimator")
    with pytest.raises(UserError, match="no strength or balance"):
        ClassicalEstimator().fuse(make_batch(["one"]), Controls(balance=0.1))
