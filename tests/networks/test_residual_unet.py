"""The restoration network: published sizes, any image size, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusion_lightning.diffusion.residual import ResidualSchedule, diffuse
from fusion_lightning.diffusion.sampling import sample
from fusion_lightning.errors import UserError
from fusion_lightning.losses.functional import residual_loss
from fusion_lightning.networks.residual_unet import ResidualUNet


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.9), ("small", 3.3), ("base", 12.4), ("large", 36.26)])
def test_sizes_have_the_published_parameter_counts(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = ResidualUNet(size)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="`size` must be one of tiny, small, base, large, but got 'huge'"):
        ResidualUNet("huge")


def test_untrained_it_changes_the_image_little() -> None:
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert ResidualUNet("tiny")(image, image, torch.tensor([500.0])).std() < 0.2


@pytest.mark.parametrize("size", [(16, 24), (17, 23), (9, 40), (5, 3), (1, 1)])
def test_any_image_size(size: tuple[int, int]) -> None:
    state, degraded = torch.randn(2, 1, 3, *size)
    assert ResidualUNet("tiny")(state, degraded, torch.tensor([3.0])).shape == (1, 3, *size)


def test_odd_sizes_are_mirrored_and_cropped() -> None:
    network = ResidualUNet("tiny").eval()
    state, degraded = torch.randn(2, 1, 3, 15, 14)
    mirrored = [F.pad(image, (0, 2, 0, 1), mode="reflect") for image in (state, degraded)]
    time = torch.tensor([300.0])
    torch.testing.assert_close(network(state, degraded, time), network(*mirrored, time)[..., :15, :14])


def test_every_parameter_learns() -> None:
    network = ResidualUNet("tiny")
    state, degraded = torch.randn(2, 2, 3, 16, 16)
    network(state, degraded, torch.tensor([3.0, 900.0])).square().sum().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not silent


def test_it_listens_to_the_state_the_image_and_the_time() -> None:
    network = ResidualUNet("tiny").eval()
    state, degraded, other = torch.randn(3, 1, 3, 16, 16)
    early, late = torch.tensor([3.0]), torch.tensor([900.0])
    answer = network(state, degraded, early)
    for changed in (network(other, degraded, early), network(state, other, early), network(state, degraded, late)):
        assert (changed - answer).abs().max() > 1e-3


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    network = ResidualUNet("tiny").eval()
    state, degraded = torch.randn(2, 2, 3, 16, 16)
    time = torch.tensor([3.0, 900.0])
    together = network(state, degraded, time)
    torch.testing.assert_close(together[1:], network(state[1:], degraded[1:], time[1:]), atol=1e-5, rtol=1e-4)


def test_the_layout_does_not_change_the_answer() -> None:
    network = ResidualUNet("tiny").eval()
    state, degraded = torch.randn(2, 1, 3, 16, 24)
    time = torch.tensor([3.0])
    channels_last = network(state, degraded, time)
    contiguous = network.to(memory_format=torch.contiguous_format)(state, degraded, time)
    torch.testing.assert_close(contiguous, channels_last, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_fixed_weights_change_nothing_and_end_with_their_block(half: bool) -> None:
    network = ResidualUNet("tiny").eval()
    state, degraded = torch.randn(2, 1, 3, 16, 24)
    time = torch.tensor([3.0])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        expected = network(state, degraded, time)
        with network.fixed_weights():
            assert torch.equal(network(state, degraded, time), expected)
        for weight in network.parameters():
            weight.data.add_(0.01 * torch.randn_like(weight))
        assert not torch.equal(network(state, degraded, time), expected)


def test_features_stay_channels_last() -> None:
    network, layouts = ResidualUNet("tiny"), []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, inputs, __: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
    state, degraded = torch.randn(2, 1, 3, 16, 16)
    network(state, degraded, torch.tensor([3.0]))
    # The first convolution takes the images as they come.
    assert all(layouts[1:])


def _four_pairs(side: int) -> tuple[Tensor, Tensor]:
    """Smooth scenes, and the same scenes dark, hazy, low in contrast, and blurred; in [−1, 1]."""
    coarse = torch.rand(4, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(1))
    clean = F.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)
    degraded = torch.stack(
        (0.3 * clean[0], 0.4 * clean[1] + 0.5, 0.5 * clean[2] + 0.25, F.avg_pool2d(clean[3], 9, 1, 4))
    )
    return clean * 2 - 1, degraded * 2 - 1


@pytest.mark.slow
def test_overfitting_four_pairs_drives_the_loss_down_tenfold() -> None:
    clean, degraded = _four_pairs(64)
    network, schedule = ResidualUNet("tiny"), ResidualSchedule()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))
    losses = []
    for _ in range(300):
        t = torch.randint(schedule.timesteps, (4,))
        state = diffuse(schedule, clean, degraded, torch.randn_like(clean), t)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(state, degraded, schedule.residual_time(t))
        loss = residual_loss(predicted, degraded - clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < losses[0] / 10

    network.eval()
    answers = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            *_, last = sample(
                schedule,
                lambda state, image, t: network(state, image, schedule.residual_time(t)),
                degraded,
                generator=torch.Generator().manual_seed(0),
            )
        answers[dtype] = last.image
    error = (answers[torch.float32] - clean).abs().mean()
    assert error < (degraded - clean).abs().mean() / 5
    # Half precision is judged on trained weights, in dB between images of range 2.
    difference = (answers[torch.bfloat16] - answers[torch.float32]).square().mean()
    assert -10 * torch.log10(difference / 4) > 40


def test_the_network_sees_opponent_colours() -> None:
    network, inputs = ResidualUNet("tiny"), []
    network.stem.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    state = torch.rand(1, 1, 8, 8).expand(-1, 3, -1, -1)
    network(state, state, torch.tensor([1.0]))
    expected = torch.cat([math.sqrt(3) * state[:, :1], torch.zeros(1, 2, 8, 8)], dim=1)  # infrared has no colour
    torch.testing.assert_close(inputs[0], torch.cat([expected, expected], dim=1))


def test_the_gain_of_branches_is_where_they_begin() -> None:
    weak, strong = ResidualUNet("tiny", branch_init=0.25), ResidualUNet("tiny")
    assert weak.final.norm2.weight.unique().tolist() == [0.25]
    assert strong.encoder[0].attention.norm_out.norm.weight.unique().tolist() == [1.0]
    with pytest.raises(UserError, match="`branch_init` must be at least 0"):
        ResidualUNet("tiny", branch_init=-1)
