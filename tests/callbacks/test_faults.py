"""Losses and gradients that are no numbers."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from fusion_lightning.batch import FusionBatch
from fusion_lightning.callbacks import NonFiniteGuard
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.methods import FusionMethod


class Toy(FusionMethod):
    """One weight, and a fault of one's choice at the third step."""

    def __init__(self, fault: str, always: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.fault = fault
        self.always = always
        self.seen: list[float] = []

    def training_step(self, batch: FusionBatch, batch_idx: int) -> Tensor:
        self.seen.append(self.weight.item())
        faulty = self.always or len(self.seen) == 3
        if faulty and self.fault == "data":
            batch["source_a"][1, 0, 2, 3] = torch.nan
        loss = (self.weight * batch["source_a"]).mean()
        if faulty and self.fault == "loss":
            loss = loss / 0
        if faulty and self.fault == "gradient":
            loss = loss + (self.weight - self.weight.detach()).abs().sqrt()  # finite, with an infinite slope
        return loss


def _train(method: Toy, faults: NonFiniteGuard, folder: Path, **options: int) -> Toy:
    data = FusionData(length=40, scene_size=64, crop_size=16, batch_size=2, num_workers=0, scenarios=["clean"])
    trainer = Trainer(
        **{"max_steps": 6, **options},  # type: ignore[arg-type]
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[faults],
        default_root_dir=str(folder),
    )
    trainer.fit(method, datamodule=data)
    return method


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("data", "step 3: the loss is nan because source_a of scene"),
        ("loss", "step 3: the loss is inf (images scene"),
        ("gradient", "step 3: the loss is finite, but its gradient is not (images scene"),
    ],
)
def test_a_fault_names_step_and_images_and_is_kept(fault: str, words: str, tmp_path: Path) -> None:
    method = Toy(fault)
    with pytest.raises(UserError) as refusal:
        _train(method, NonFiniteGuard(folder=str(tmp_path / "faults")), tmp_path)
    sentence = str(refusal.value)
    assert sentence.replace("street-", "scene").startswith(words) or words.split("scene")[0] in sentence
    assert "--faults.action skip" in sentence
    (folder,) = (tmp_path / "faults").iterdir()
    assert str(folder) in sentence
    assert folder.name == "step000003"
    state = torch.load(folder / "state.ckpt", weights_only=True)
    assert state["global_step"] == 2
    assert state["state_dict"]["weight"].item() == method.weight.item() == method.seen[-1]
    (batch,) = torch.load(folder / "batch-0.pt", weights_only=True)
    assert all(name in sentence for name in batch["name"])
    assert bool(batch["source_a"].isnan().any()) == (fault == "data")


@pytest.mark.parametrize("fault", ["data", "loss", "gradient"])
def test_a_fault_can_be_skipped(fault: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="the step is skipped"):
        method = _train(Toy(fault), NonFiniteGuard(action="skip"), tmp_path)
    assert method.seen[3] == method.seen[2]  # nothing was learned from it
    assert method.seen[2] < method.seen[1]
    assert method.seen[4] < method.seen[3]
    assert torch.isfinite(method.weight)


def test_accumulated_batches_are_looked_at_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"step 2: the loss is nan because source_a of .* \(images [^,]*, [^,]*\)"):
        _train(Toy("data"), NonFiniteGuard(), tmp_path, accumulate_grad_batches=2)


@pytest.mark.filterwarnings("ignore:.*the step is skipped.*")
def test_faults_without_end_stop(tmp_path: Path) -> None:
    method = Toy("loss", always=True)
    with pytest.raises(UserError, match="10 steps in a row were skipped"):
        _train(method, NonFiniteGuard(action="skip"), tmp_path, max_steps=20)
    assert len(method.seen) == 10
    assert set(method.seen) == {1.0}


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(UserError, match="must be one of stop, skip, but got 'ignore'"):
        NonFiniteGuard(action="ignore")  # type: ignore[arg-type]
