"""DRFusion: what it promises beyond the tested mathematics of its parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import FusionBatch, FusionSample, SampleDegradation, collate
from fusion_lightning.degradations import degrade, scenario
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import rgb_to_cbcr, rgb_to_luma
from fusion_lightning.imaging.convert import colorize, to_image, to_tensor
from fusion_lightning.methods import Controls, DRFusion, load_method
from fusion_lightning.methods.observations import observe_pair
from fusion_lightning.operators import DEFAULT_RHO, Downsample

from ..conftest import save

NOISE, BLUR, COMPOSITE = "drfusion_noise", "drfusion_blur", "drfusion_composite"


def make_batch(scenarios: list[str], size: tuple[int, int] = (16, 16), color: str | None = "b") -> FusionBatch:
    """Smooth scenes, degraded as named; every image depends on its place only."""
    samples = []
    for index, name in enumerate(scenarios):
        generator = np.random.default_rng(index)
        images = {}
        for side in "ab":
            coarse = torch.rand(1, 3 if side == color else 1, 4, 4, generator=torch.Generator().manual_seed(index + 7))
            smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
            images[side] = smooth.permute(1, 2, 0).numpy()
        what = scenario(name)
        (a, applied_a), (b, applied_b) = (
            degrade(images["a"], what.a, generator),
            degrade(images["b"], what.b, generator),
        )
        samples.append(
            FusionSample(
                source_a=to_tensor(a),
                source_b=to_tensor(b),
                clean_a=to_tensor(images["a"]),
                clean_b=to_tensor(images["b"]),
                degradation=SampleDegradation(scenario=name, a=applied_a, b=applied_b),
                name=str(index),
            )
        )
    return collate(samples)


def make_method(**options: object) -> DRFusion:
    """A tiny method whose network says something."""
    method = DRFusion(size="tiny", **options).eval()  # type: ignore[arg-type]
    for decoder in (method.network.noise_decoder, method.network.weight_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.05)
    return method


def pick(batch: FusionBatch, index: int) -> FusionBatch:
    return FusionBatch(**{key: value[index : index + 1] for key, value in batch.items()})  # type: ignore[index,typeddict-item]


@pytest.mark.parametrize(
    ("name", "size", "color"),
    [(NOISE, (9, 6), "b"), (BLUR, (33, 24), None), (COMPOSITE, (32, 32), "a"), (COMPOSITE, (21, 27), "b")],
)
def test_any_size_scenario_and_colour(name: str, size: tuple[int, int], color: str | None) -> None:
    batch = make_batch([name], size, color)
    with torch.no_grad():
        output = make_method().fuse(batch)
    assert output["fused"].shape == (1, 1 if color is None else 3, *size)
    assert output["restored_a"].shape == batch["clean_a"].shape
    assert output["restored_b"].shape == batch["clean_b"].shape
    assert output["weight"].shape == (1, 1, *size)
    assert all(0 <= float(image.min()) <= float(image.max()) <= 1 for image in output.values())  # type: ignore[attr-defined]


def test_an_untrained_method_returns_the_pseudo_inverses_and_their_mean() -> None:
    batch = make_batch([COMPOSITE], color=None)
    with torch.no_grad():
        *_, last = DRFusion(size="tiny").eval().trajectory(batch)
    observed = (rgb_to_luma(batch["source_a"]), rgb_to_luma(batch["source_b"]))
    assert observed[0].shape[-1] == 4
    # nothing was drawn and nothing learned; corrections with x̂ = A†y shrink what the Wiener filter passes
    torch.testing.assert_close(last.corrected[:, 2:], last.corrected[:, :2].mean(dim=1, keepdim=True))
    noise = make_batch([NOISE], color=None)
    with torch.no_grad():
        output = DRFusion(size="tiny").eval().fuse(noise)
    torch.testing.assert_close(output["restored_a"], noise["source_a"], atol=1e-6, rtol=0)
    torch.testing.assert_close(output["fused"], (noise["source_a"] + noise["source_b"]) / 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_low_resolution_source_is_met_at_its_own_size_whatever_the_network_computes_in(
    precision: torch.dtype,
) -> None:
    batch = make_batch([NOISE], color=None)
    batch["source_a"] = Downsample(4).A(batch["clean_a"])
    batch["source_b"] = batch["clean_b"]
    shrunk = {"name": "downsample", "params": {"factor": 4, "method": "area", "up": False}}
    batch["degradation"] = [SampleDegradation(scenario="low", a=[shrunk], b=[])]  # type: ignore[list-item]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        *_, last = make_method().trajectory(batch)
    assert last.estimate.dtype == last.corrected.dtype == torch.float32
    x_a, x_b, fused = last.corrected.split(1, dim=1)
    torch.testing.assert_close(Downsample(4).A(x_a), batch["source_a"], atol=1e-5, rtol=0)
    torch.testing.assert_close(x_b, batch["source_b"], atol=1e-5, rtol=0)
    assert last.weight is not None
    torch.testing.assert_close(fused, last.weight * x_a + (1 - last.weight) * x_b, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("projection", "tolerance"), [("paper", 1e-4), ("exact", 1e-3)])
def test_a_mixed_batch_equals_its_images_alone(projection: str, tolerance: float) -> None:
    names = [NOISE, BLUR, "blur(sigma=1)+noise(sigma=5)", NOISE, "haze@2", "clean"]
    batch, method = make_batch(names), make_method(projection=projection)
    with torch.no_grad():
        together = method.fuse(batch)
        for index in range(len(names)):
            alone = method.fuse(pick(batch, index))
            for part in ("fused", "restored_a", "restored_b"):
                torch.testing.assert_close(together[part][index : index + 1], alone[part], atol=tolerance, rtol=0)  # type: ignore[literal-required]


def test_the_last_step_is_corrected_where_something_other_than_noise_went_wrong() -> None:
    method = make_method()
    for name, corrected in ((NOISE, False), (BLUR, True), (COMPOSITE, False), ("clean", False)):
        with torch.no_grad():
            *_, last = method.trajectory(make_batch([name]))
        assert (last.weight is not None) == corrected, name
    for asked in (True, False):
        with torch.no_grad():
            *_, last = make_method(correct_last_step=asked).trajectory(make_batch([NOISE, BLUR]))
        assert (last.weight is not None) == asked


@pytest.mark.parametrize(("steps", "projection"), [(1, "paper"), (3, "paper"), (2, "exact")])
def test_gradients_flow_through_all_steps(steps: int, projection: str) -> None:
    method = make_method(timesteps=steps, projection=projection, lambda_rule="ddnm_plus")
    batch = make_batch([BLUR, "blur(sigma=1)+noise(sigma=3)"])
    method.training_step(batch, 0).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert (method.schedule.logits.grad != 0).all()  # type: ignore[operator]


def test_without_correction_no_weights_are_computed_or_trained() -> None:
    method = make_method(projection="none")
    method.network.weight_decoder.register_forward_hook(lambda *args: pytest.fail("the weight decoder ran"))
    batch = make_batch([BLUR])
    method.training_step(batch, 0).backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in method.parameters())
    with torch.no_grad():
        assert "weight" not in method.fuse(batch)


def test_recomputing_changes_memory_and_not_gradients() -> None:
    batch = make_batch([BLUR])
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(3)
        method = make_method(recompute=recompute).train()  # dropout has to repeat itself
        method.training_step(batch, 0).backward()
        gradients.append([parameter.grad for parameter in method.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def round_trip(image: Tensor, color: str) -> tuple[Tensor, Tensor]:
    """A colour source through a method that returns what it observed, as 8-bit images."""
    grey = rgb_to_luma(image)
    a, b = (image, grey) if color == "a" else (grey, image)
    clean = SampleDegradation(scenario="clean", a=[], b=[])
    batch = FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=[clean], name=["x"])
    with torch.no_grad():
        output = make_method(correct_last_step=True).fuse(batch)
    return output[f"restored_{color}"][0], output["fused"][0]  # type: ignore[literal-required]


@pytest.mark.parametrize("color", ["a", "b"])
def test_colour_comes_back_within_two_grey_levels(color: str) -> None:
    # every corner of the colour cube, where mixed-up channels are off by up to 255 levels
    generator = np.random.default_rng(0)
    pixels = np.concatenate((generator.integers(0, 256, (248, 3)), 255 * np.indices((2, 2, 2)).reshape(3, 8).T))
    image = pixels.reshape(16, 16, 3).astype(np.uint8)
    for result in round_trip(to_tensor(image)[None], color):
        assert np.abs(to_image(result).astype(int) - image).max() <= 2


def test_the_hue_of_the_fusion_is_that_of_the_colour_source() -> None:
    batch = make_batch([NOISE])
    batch["source_b"] = batch["source_b"] * 0.2 + 0.4  # away from black and white, where RGB is cut
    batch["source_a"] = batch["source_a"] * 0.2 + 0.4
    with torch.no_grad():
        fused = make_method(correct_last_step=True, chroma="observed").fuse(batch)["fused"]
    torch.testing.assert_close(rgb_to_cbcr(fused), rgb_to_cbcr(batch["source_b"]), atol=2 / 255, rtol=0)


def test_chroma_may_be_restored_with_the_same_operator() -> None:
    batch = make_batch(["blur(sigma=1.5, padding=zero)"], (48, 48))
    for key in ("source_b", "clean_b"):
        batch[key] = 0.3 * batch[key] + 0.3 * rgb_to_luma(batch[key])  # type: ignore[literal-required]
    distance = {}
    for option in ("observed", "restored"):
        with torch.no_grad():
            output = DRFusion(size="tiny", chroma=option).eval().fuse(batch)  # type: ignore[arg-type]
        distance[option] = float((rgb_to_cbcr(output["restored_b"]) - rgb_to_cbcr(batch["clean_b"])).abs().mean())
    assert distance["restored"] < 0.5 * distance["observed"]


@pytest.mark.parametrize("name", [NOISE, COMPOSITE])
def test_noisy_chroma_is_smoothed_along_the_luma(name: str) -> None:
    batch = make_batch([name], (48, 48))
    observed = observe_pair(batch, DEFAULT_RHO)
    clean = (rgb_to_luma(batch["clean_a"]), rgb_to_luma(batch["clean_b"]))
    errors = [
        (colors - rgb_to_cbcr(batch["clean_b"])).square().mean()
        for colors in (observed.chromas(lumas)[1] for lumas in (clean, None))
        if colors is not None
    ]
    assert errors[0] < 0.5 * errors[1]


def test_noisy_false_colours_stay_where_they_are() -> None:
    """A palette is no line in its luma: along it alone its colours would be smeared into each other."""
    batch = make_batch([NOISE], (96, 96))
    grey = torch.nn.functional.interpolate(
        torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(3)), (96, 96), mode="bicubic"
    )
    clean = to_tensor(colorize(grey[0].clamp(0, 1).permute(1, 2, 0).numpy(), "jet"))[None]
    batch["source_b"] += clean - batch["clean_b"]
    observed = observe_pair(batch, DEFAULT_RHO)
    lumas = (rgb_to_luma(batch["clean_a"]), rgb_to_luma(clean))
    smoothed, noisy = (observed.chromas(given)[1] for given in (lumas, None))
    assert smoothed is not None
    assert noisy is not None
    errors = [(colors - rgb_to_cbcr(clean)).square().mean() for colors in (smoothed, noisy)]
    assert errors[0] < errors[1]


def test_early_steps_begin_without_noise_where_the_correction_would_discard_them() -> None:
    for name, expected in ((NOISE, [1.0, 0.0, 0.0]), (BLUR, [1.0, 1.0, 1.0])):
        method = make_method()
        loss = method.training_step(make_batch([name]), 0)
        used = int(name != NOISE)
        slopes = torch.autograd.grad(loss, method.schedule.gains)[0]
        assert method.schedule.gains[used].tolist() == expected
        assert slopes[used].all()  # training leaves zeros behind
        assert not slopes[1 - used].any()
    assert bool((make_method(projection="none").schedule.gains == 1).all())


@pytest.mark.slow
def test_overfitting_two_pairs() -> None:
    torch.manual_seed(0)
    method = DRFusion(size="tiny", timesteps=2)
    batch = make_batch([NOISE, NOISE], (16, 16), color=None)
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    losses = []
    for step in range(80):
        optimizer.zero_grad()
        loss = method.training_step(batch, step)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < losses[0] / 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"projection": "near"}, "`projection` must be one of paper, exact, none, but got 'near'"),
        ({"lambda_rule": "two"}, "`lambda_rule` must be one of ddnm_plus, one"),
        ({"chroma": "none"}, "`chroma` must be one of observed, restored"),
        ({"targets": "dirty"}, "`targets` must be one of clean, reconstructed"),
        ({"reference": "mean"}, "`reference` must be one of maximum, both"),
        ({"timesteps": 0}, "`timesteps` must be at least 1"),
        ({"intensity": -1.0}, "loss weights must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        DRFusion(size="tiny", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("targets", ["clean", "reconstructed"])
@pytest.mark.parametrize("reference", ["maximum", "both"])
def test_every_loss_is_finite(reference: str, targets: str) -> None:
    method = make_method(timesteps=1, reference=reference, targets=targets)
    assert method.training_step(make_batch([BLUR]), 0).isfinite()


def test_it_has_no_knobs_and_names_a_source_of_the_wrong_size() -> None:
    batch = make_batch([COMPOSITE])
    with pytest.raises(UserError, match="DRFusion has no strength or balance controls"):
        make_method().fuse(batch, Controls(balance=0.2))
    batch["source_a"] = batch["source_a"][..., :3]
    with pytest.raises(UserError, match="16 × 16 averaged by 4 must have 4 × 4 pixels, but got 4 × 3"):
        make_method().fuse(batch)


def test_sources_of_unknown_degradation_may_differ_in_size() -> None:
    batch = make_batch(["clean"])
    batch["source_a"] = batch["source_a"][..., ::2, ::2]
    with torch.no_grad():
        assert make_method().fuse(batch)["restored_a"].shape[-2:] == (16, 16)


def test_a_checkpoint_brings_everything_back(tmp_path: Path) -> None:
    method = make_method(timesteps=2, lambda_rule="one", reference="both")
    torch.nn.init.constant_(method.schedule.logits, 0.3)
    again = load_method(save(method, tmp_path / "x.ckpt"), DRFusion).eval()
    batch = make_batch([BLUR])
    with torch.no_grad():
        assert torch.equal(again.fuse(batch)["fused"], method.fuse(batch)["fused"])


def test_explains_itself_step_by_step() -> None:
    rows, labels = make_method().trajectory_sheet(make_batch([NOISE, BLUR]))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(labels)} == {7}
    assert all(picture.shape == (1, 16, 16) for row in rows for picture in row)
