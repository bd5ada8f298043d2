"""Short real trainings on drawn scenes: what the diffusion methods are meant to do, on scenes they have not seen."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
import torch

from fusion_lightning.batch import FusionBatch, clean, sources
from fusion_lightning.datamodules import FusionData
from fusion_lightning.diffusion.sampling import generators_for
from fusion_lightning.imaging.color import rgb_to_luma
from fusion_lightning.losses.functional import intensity_loss
from fusion_lightning.methods import (
    DiffusionRestorer,
    DifFusionStage1,
    DifFusionStage2,
    FusionMethod,
    MaskDiFuser,
    TextDiFuse,
    UnconditionalPrior,
)
from fusion_lightning.methods.dif_fusion import stack
from fusion_lightning.metrics.functional import psnr_to

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data() -> FusionData:
    data = FusionData(length=64, scene_size=64, crop_size=32, batch_size=4, num_workers=0, scenarios=["drfusion_noise"])
    data.setup("fit")
    return data


def train(method: FusionMethod, data: FusionData, steps: int) -> list[float]:
    """Train by Adam, from 2e-3 down along a cosine; the losses of every step."""
    torch.manual_seed(0)
    losses: list[float] = []
    method.log_dict = lambda parts, **kwargs: losses.append(float(parts["train/loss"]))  # type: ignore[method-assign]
    optimizer = torch.optim.Adam([one for one in method.parameters() if one.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    method.train()

    def batches() -> Iterator[FusionBatch]:
        while True:
            yield from data.train_dataloader()

    for step, batch in enumerate(islice(batches(), steps)):
        method.seed = step  # type: ignore[assignment]
        optimizer.zero_grad()
        method.training_step(batch, step).backward()
        optimizer.step()
        schedule.step()
    method.seed = 0  # type: ignore[assignment]
    method.eval()
    return losses


@torch.no_grad()
def over(data: FusionData, measure: Callable[[FusionBatch], list[float]]) -> list[float]:
    """Means over the validation scenes."""
    rows = [measure(batch) for batch in data.val_dataloader()]
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def gains(method: FusionMethod, data: FusionData) -> list[float]:
    """By how many dB both sources' lumas come nearer to the clean ones."""

    def measure(batch: FusionBatch) -> list[float]:
        output = method.fuse(batch)
        return [
            float((luma_psnr(after, target) - luma_psnr(before, target)).mean())
            for after, before, target in zip(
                (output["restored_a"], output["restored_b"]), sources(batch), clean(batch), strict=True
            )
        ]

    return over(data, measure)


def luma_psnr(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return psnr_to(rgb_to_luma(image), rgb_to_luma(target))


@pytest.fixture(scope="module")
def restorer(data: FusionData) -> DiffusionRestorer:
    method = DiffusionRestorer(
        "tiny", shared_network=True, luma=True, sampling_steps=3, prediction="clean", times="sampled"
    )
    train(method, data, 150)
    return method


def test_a_correction_restores_after_a_short_training_and_a_noise_does_not(
    restorer: DiffusionRestorer, data: FusionData
) -> None:
    other = DiffusionRestorer("tiny", shared_network=True, luma=True, sampling_steps=3, times="sampled")
    train(other, data, 150)
    correction, noise = gains(restorer, data), gains(other, data)
    print("correction", correction, "noise", noise)
    assert min(correction) > 2
    assert max(noise) < min(correction) - 2


def test_the_control_learns_what_the_mean_of_maps_does_not_give(restorer: DiffusionRestorer, data: FusionData) -> None:
    method = TextDiFuse(stage1=dict(restorer.hparams)).eval()
    method.restorer.load_state_dict(restorer.restorer.state_dict())

    def loss(batch: FusionBatch) -> list[float]:
        return [float(intensity_loss(method.fuse(batch)["fused"], *(rgb_to_luma(one) for one in clean(batch))))]

    before = over(data, loss)
    train(method, data, 60)
    after = over(data, loss)
    print("control", before, after)
    assert after[0] < 0.7 * before[0]


def test_a_prior_learns_the_noise_and_a_head_learns_on_it(data: FusionData) -> None:
    prior = DifFusionStage1("tiny")
    train(prior, data, 250)

    def noise(batch: FusionBatch) -> list[float]:
        return [float(prior.prior.loss(stack(*clean(batch)), generators_for(batch["name"], key))) for key in range(5)]

    losses = over(data, noise)
    head = DifFusionStage2(stage1=dict(prior.hparams), gradient=0.2)
    head.prior.load_state_dict(prior.prior.state_dict())
    painted = train(head, data, 120)
    print("noise loss", losses, "gains", gains(prior, data), "head", sum(painted[:20]) / 20, sum(painted[-20:]) / 20)
    assert sum(losses) / len(losses) < 0.25
    assert sum(painted[-20:]) < 0.7 * sum(painted[:20])


def test_masked_images_come_back(data: FusionData) -> None:
    method = MaskDiFuser("tiny", sampling_steps=3, prediction="clean", times="sampled", grid=4)
    train(method, data, 200)

    def measure(batch: FusionBatch) -> list[float]:
        x, a, b = method.views(batch, generators_for(batch["name"], 0))
        drawn = method.draw(a, b, generators_for(batch["name"], 0))
        return [float(psnr_to(image, (x + 1) / 2).mean()) for image in ((a + b + 2) / 4, drawn)]

    mean, drawn = over(data, measure)
    print("views", mean, drawn)
    assert drawn > mean + 3


def test_a_prior_learns_more_than_single_pixels_tell_and_removes_known_noise(data: FusionData) -> None:
    """The best denoiser of single pixels has a loss of about (π/2) times their deviation."""
    method = UnconditionalPrior(size="tiny")
    losses = train(method, data, 400)
    pixels = [rgb_to_luma(one).flatten() for batch in data.train_dataloader() for one in clean(batch)]
    alone = math.pi / 2 * float(2 * torch.cat(pixels).std())
    loss = sum(losses[-50:]) / 50
    found = gains(method, data)
    print(f"\nprior: loss {loss:.3f}, of single pixels {alone:.3f}; {found[0]:+.1f} and {found[1]:+.1f} dB")
    assert loss < 0.7 * alone
    assert min(found) > 1
