"""The moving average of weights against its definition, in a real training."""

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from fusion_lightning.callbacks import MovingAverage
from fusion_lightning.errors import UserError


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch, index):
        return (self.layer(batch) - 1).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Weights(Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, module, *_) -> None:
        self.seen.append(module.layer.weight.detach().double().clone())


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.995])
def test_it_is_the_weighted_sum_of_all_weights(decay: float, tmp_path) -> None:
    torch.manual_seed(0)
    method, weights = Line(), Weights()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[weights, MovingAverage(decay)],
    )
    trainer.fit(method, DataLoader(torch.randn(30, 3), batch_size=1))
    expected = weights.seen[0]
    for count, seen in enumerate(weights.seen[1:], start=1):
        kept = min(decay, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * seen
    torch.testing.assert_close(method.layer.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(weights.seen[0], weights.seen[-1])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(UserError, match="`decay` must be in"):
        MovingAverage(decay)
