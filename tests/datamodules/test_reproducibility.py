"""Nothing about batches, workers, processes or interruptions changes a sample."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules import FusionData

PAIRS = [f"{number:03d}.png" for number in range(20)]
SPLIT = {"train/ir": 1, "train/vi": 3, "val/ir": 1, "val/vi": 3}


@pytest.fixture
def root(make_set: Callable[..., str]) -> str:
    return make_set(SPLIT, PAIRS)


def _data(root: str, **options: Any) -> FusionData:
    options = {"crop_size": 32, "batch_size": 4, "num_workers": 0, "scenarios": ["noise", "haze", "stripes"], **options}
    return FusionData(root, {"a": "ir", "b": "vi"}, **options)


def _digests(batch: FusionBatch) -> list[tuple[str, str]]:
    """Name and digest of every sample: of all tensors and of what was applied."""
    digests = []
    for index, name in enumerate(batch["name"]):
        digest = hashlib.sha256(json.dumps(batch["degradation"][index], sort_keys=True).encode())
        for tensor in (batch["source_a"], batch["source_b"], batch["clean_a"], batch["clean_b"]):
            digest.update(tensor[index].contiguous().numpy().tobytes())
        digests.append((name, digest.hexdigest()))
    return digests


def _epochs(data: FusionData) -> list[list[tuple[str, str]]]:
    """Two epochs of training samples and one of validation, in order."""
    data.setup()
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        epochs.append([sample for batch in loader for sample in _digests(batch)])
    return [*epochs, [sample for batch in data.val_dataloader() for sample in _digests(batch)]]


class Recorder(LightningModule):
    """Trains nothing and writes down what it is fed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: FusionBatch) -> torch.Tensor:
        self._write("train", batch)
        return self.weight * batch["source_a"].mean()

    def validation_step(self, batch: FusionBatch) -> None:
        self._write("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def _write(self, stage: str, batch: FusionBatch) -> None:
        with (self.folder / f"{stage}{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps([self.current_epoch, self.global_step, _digests(batch)]) + "\n")


def _run(folder: Path, data: FusionData, ckpt_path: str | None = None, **options: Any) -> None:
    folder.mkdir()
    defaults = {"max_epochs": 3, "num_sanity_val_steps": 0, "logger": False, "enable_progress_bar": False}
    options = {"accelerator": "cpu", "devices": 1, "enable_model_summary": False, **defaults, **options}
    Trainer(default_root_dir=folder, **options).fit(Recorder(folder), data, ckpt_path=ckpt_path)


def _read(path: Path) -> list[list[Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_batches_and_workers_change_no_sample(root: str) -> None:
    reference = _epochs(_data(root, batch_size=1))
    assert [len(epoch) for epoch in reference] == [20, 20, 20]
    assert not set(reference[0]) & set(reference[1])  # another epoch draws anew
    for options in ({"batch_size": 5, "num_workers": 2}, {"batch_size": 4, "cache": True}):
        assert _epochs(_data(root, **options)) == reference
    assert _epochs(_data(root, seed=1))[2] != reference[2]


def test_quotas_give_each_batch_its_scenarios_and_keep_the_rest(root: str) -> None:
    data = _data(root, batch_size=5, quotas={"haze": 2, "noise": 1})
    data.setup()
    for batch in data.train_dataloader():
        drawn = [degradation["scenario"] for degradation in batch["degradation"]]
        assert drawn[:3] == ["haze", "haze", "noise"]


def test_evaluation_takes_the_scenarios_in_turn(root: str) -> None:
    data = _data(root)
    data.setup()
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        drawn = [batch["degradation"][0]["scenario"] for batch in loader]
        assert drawn == (["noise", "haze", "stripes"] * 7)[:20]


def test_two_processes_share_the_samples_of_one(root: str, tmp_path: Path) -> None:
    """A real gloo process group under the Trainer's own defaults."""
    _run(tmp_path / "one", _data(root, batch_size=4), max_epochs=2)
    _run(tmp_path / "two", _data(root, batch_size=2), max_epochs=2, devices=2, strategy="ddp_fork")
    one = _read(tmp_path / "one" / "train0.jsonl")
    two = [_read(tmp_path / "two" / f"train{rank}.jsonl") for rank in (0, 1)]
    assert len(one) == 10
    for whole, left, right in zip(one, *two, strict=True):
        assert whole[:2] == left[:2] == right[:2]
        assert sorted(whole[2]) == sorted(left[2] + right[2])
    val = [
        sample for rank in (0, 1) for _, _, batch in _read(tmp_path / "two" / f"val{rank}.jsonl") for sample in batch
    ]
    assert sorted(val) == sorted(sample for _, _, batch in _read(tmp_path / "one" / "val0.jsonl") for sample in batch)


@pytest.mark.parametrize(
    ("stop", "options", "workers"),
    [
        (2, {}, 0),
        (5, {}, 0),
        (8, {"val_check_interval": 2}, 2),
        (7, {"accumulate_grad_batches": 1, "max_steps": 15, "max_epochs": -1}, 0),
        (10, {"val_check_interval": 3, "check_val_every_n_epoch": None, "max_steps": 15, "max_epochs": -1}, 0),
    ],
)
def test_a_resumed_run_goes_on_with_the_next_batch(
    root: str, tmp_path: Path, stop: int, options: dict[str, Any], workers: int
) -> None:
    """Checkpoints are written after every step: from each kind of place the rest of the run is the same."""
    _run(tmp_path / "straight", _data(root), **options)
    keep = ModelCheckpoint(tmp_path / "checkpoints", "{step}", every_n_train_steps=1, save_top_k=-1)
    _run(tmp_path / "first", _data(root), **{**options, "max_steps": stop}, callbacks=[keep])
    checkpoint = str(tmp_path / "checkpoints" / f"step={stop}.ckpt")
    _run(tmp_path / "second", _data(root, num_workers=workers), checkpoint, **options)
    straight = _read(tmp_path / "straight" / "train0.jsonl")
    first, second = (_read(tmp_path / half / "train0.jsonl") for half in ("first", "second"))
    assert [len(half) for half in (first, second)] == [stop, 15 - stop]
    assert first + second == straight
