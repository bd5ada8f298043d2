"""The data module: crops, twins, mistakes that are named, memory and checks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules import FusionData
from fusion_lightning.datamodules.dataset import FusionDataset
from fusion_lightning.datamodules.pairs import Pair
from fusion_lightning.datamodules.sampler import SampleKey, TrainSampler
from fusion_lightning.degradations import degrade, scenario
from fusion_lightning.errors import UserError

FOLDERS = {"a": "ir", "b": "vi"}


def _ramp(height: int, width: int, factor: int = 1) -> np.ndarray:
    """Every pixel tells where it is, so that crops of two images can be compared; (height, width, 1)."""
    rows, columns = np.mgrid[:height, :width] // factor
    return ((rows * 7 + columns * 3) % 251).astype(np.uint8)[..., None]


def test_crop_and_flip_are_the_same_for_both_sources() -> None:
    image = _ramp(40, 48)
    dataset = FusionDataset([Pair("x", image, image)], training=True, crop_size=16, flip=True)
    crops = [dataset[SampleKey(epoch, 0)] for epoch in range(20)]
    for sample in crops:
        assert sample["source_a"].shape == (1, 16, 16)
        assert torch.equal(sample["source_a"], sample["source_b"])
    assert len({sample["source_a"].numpy().tobytes() for sample in crops}) > 15
    mirrored = [bool(sample["source_a"][0, 0, 0] > sample["source_a"][0, 0, 2]) for sample in crops]
    assert set(mirrored) == {True, False}


def test_a_smaller_source_is_cropped_in_proportion() -> None:
    small = np.random.default_rng(0).integers(0, 256, (10, 12, 1), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    dataset = FusionDataset(
        [Pair("x", small, large, clean_a=large, clean_b=large)], training=True, crop_size=16, flip=True
    )
    for epoch in range(10):
        sample = dataset[SampleKey(epoch, 0)]
        assert sample["source_a"].shape == (1, 4, 4)
        enlarged = sample["source_a"].repeat_interleave(4, -1).repeat_interleave(4, -2)
        assert torch.equal(enlarged, sample["clean_a"])
        assert torch.equal(sample["source_b"], sample["clean_b"])


def test_an_image_smaller_than_the_crop_is_padded_by_reflection() -> None:
    image = _ramp(10, 12)
    sample = FusionDataset([Pair("x", image, image)], training=True, crop_size=32)[SampleKey(0, 0)]
    expected = np.pad(image, [(0, 22), (0, 20), (0, 0)], mode="symmetric")[..., 0]
    assert torch.equal(sample["clean_a"][0], torch.from_numpy(expected) / 255)


def test_the_degradation_that_is_told_is_the_one_that_was_applied() -> None:
    image = _ramp(24, 24)
    pairs = [Pair("x", image, image.repeat(3, axis=2))]
    custom = scenario({"name": "mine", "a": "noise(sigma=10)", "b": "blur(sigma=2)"})
    sample = FusionDataset(pairs, [custom])[0]
    assert sample["degradation"]["scenario"] == "mine"
    assert [effect["name"] for effect in sample["degradation"]["a"]] == ["noise"]
    assert [effect["name"] for effect in sample["degradation"]["b"]] == ["blur"]
    assert not torch.equal(sample["source_a"], sample["clean_a"])
    assert torch.equal(sample["clean_a"][0], torch.from_numpy(image[..., 0]) / 255)


def test_without_scenarios_the_targets_are_the_sources(make_set: Callable[..., str]) -> None:
    data = FusionData(make_set({"ir": 1, "vi": 3}, ["1.png", "2.png", "3.png"]), FOLDERS, scenarios=[], num_workers=0)
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(batch["source_a"], batch["clean_a"])
    assert torch.equal(batch["source_b"], batch["clean_b"])
    assert batch["degradation"] == [{"scenario": "delivered", "a": [], "b": []}]


def test_every_pair_comes_once_per_epoch_and_few_pairs_fill_a_batch() -> None:
    sampler = TrainSampler(20, 4, seed=3)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append([draw.index for draw in sampler])
        assert sorted(orders[-1]) == list(range(20))
    assert orders[0] != orders[1]
    assert len(list(TrainSampler(3, 8))) == len(TrainSampler(3, 8)) == 8
    assert len(list(TrainSampler(10, 4))) == 8


def test_quotas_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(UserError, match=r"`quotas` ask for 9 samples per batch .* `batch_size` is 8"):
        FusionData(quotas={"noise": 5, "blur": 4})
    with pytest.raises(UserError, match=r"`quotas` must name scenarios .* but got `fog`"):
        FusionData(quotas={"fog": 1})


def test_a_margin_is_degraded_with_the_crop_and_cut_off() -> None:
    generator = np.random.default_rng(0)
    pair = Pair("x", *(generator.integers(256, size=(70, 50, 1), dtype=np.uint8) for _ in range(2)))
    blur = scenario({"name": "blur", "a": "blur(sigma=2, padding=zero)", "b": "identity"})
    whole, _ = degrade(pair.a / np.float32(255), blur.a, generator)
    found = {}
    for margin in (0, 10, 100):
        dataset = FusionDataset([pair], [blur], training=True, crop_size=24, margin=margin, flip=True)
        for index in range(20):
            sample = dataset[SampleKey(index, 0)]
            assert sample["source_a"].shape == sample["clean_b"].shape == (1, 24, 24)
            # the same crop and mirroring whatever the margin
            assert torch.equal(found.setdefault(index, sample["clean_a"]), sample["clean_a"])
            blurred = _place(pair.a / np.float32(255), sample["clean_a"][0].numpy(), whole)
            close = torch.allclose(sample["source_a"][0], torch.from_numpy(blurred), atol=1e-6)
            assert close == (margin > 0)


def test_crops_see_the_border_of_an_image_about_as_often_as_its_middle() -> None:
    rows = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None], 64, axis=1)
    dataset = FusionDataset([Pair("x", rows, rows.swapaxes(0, 1))], training=True, crop_size=16)
    seen = np.zeros((2, 64))
    for epoch in range(1000):
        sample = dataset[SampleKey(epoch, 0)]
        for axis, image in enumerate((sample["source_a"][0, :, 0], sample["source_b"][0, 0])):
            seen[axis, (image * 255).round().int().numpy()] += 1 / 1000
    middle = seen[:, 16:48].mean()
    assert middle == pytest.approx(16 / 64, abs=0.02)
    for border in (seen[:, :16], seen[:, -16:]):
        assert border.mean() == pytest.approx(middle, abs=0.03)
        assert border.min() > 0.4 * middle


def _place(image: np.ndarray, part: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What lies in `other` where `part` lies in `image`, both of which may be mirrored."""
    for turned, same in ((image, other), (image[:, ::-1], other[:, ::-1])):
        for top in range(image.shape[0] - part.shape[0] + 1):
            for left in range(image.shape[1] - part.shape[1] + 1):
                window = (slice(top, top + part.shape[0]), slice(left, left + part.shape[1]))
                if np.array_equal(turned[window][..., 0], part):
                    return np.ascontiguousarray(same[window][..., 0])
    raise AssertionError("not a part")


def test_a_margin_follows_a_smaller_source() -> None:
    large = np.arange(80 * 80, dtype=np.int64).reshape(80, 80, 1) % 251
    pair = Pair("x", large[::2, ::2].astype(np.uint8), large.astype(np.uint8))
    same = scenario({"name": "same", "a": "identity", "b": "identity"})
    dataset = FusionDataset([pair], [same], training=True, crop_size=16, margin=5)
    for index in range(20):
        sample = dataset[SampleKey(index, 0)]
        assert torch.equal(sample["source_a"], sample["source_b"][:, ::2, ::2])


def test_a_margin_needs_sources_that_keep_their_size() -> None:
    image = np.zeros((64, 64, 1), np.uint8)
    small = scenario({"name": "small", "a": "downsample(2)", "b": "identity"})
    dataset = FusionDataset([Pair("x", image, image)], [small], training=True, crop_size=16, margin=4)
    with pytest.raises(UserError, match="`margin` needs degradations that keep a source's size, but small does not"):
        dataset[SampleKey(0, 0)]


@pytest.mark.parametrize("name", ["length", "scene_size", "batch_size", "crop_size"])
def test_numbers_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"`{name}` must be at least 1"):
        FusionData(**{name: 0})


@pytest.mark.parametrize("folders", [{"a": "ir"}, {"a": "ir", "b": "vi", "clean": "gt"}])
def test_folders_must_name_both_sources(folders: dict[str, str]) -> None:
    with pytest.raises(UserError, match="`folders` must name a and b"):
        FusionData("data", folders)


def test_a_scenario_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="lowlight"):
        FusionData(scenarios=["lowlight"])


def test_samples_of_different_sizes_say_why_they_do_not_stack() -> None:
    names = {"small": {"a": "downsample(2)", "b": "identity"}, "large": {"a": "noise", "b": "identity"}}
    data = FusionData(scenarios=names, length=8, batch_size=8, crop_size=32, scene_size=32, num_workers=0)
    data.setup()
    with pytest.raises(UserError, match=r"`source_a` of .* differ in size, .*`up=true`"):
        next(iter(data.train_dataloader()))
    assert len(next(iter(data.val_dataloader()))["name"]) == 1


def test_a_set_without_training_pairs_says_so(make_set: Callable[..., str]) -> None:
    data = FusionData(make_set({"ir": 1, "vi": 3}, ["1.png"]), FOLDERS, split="test")
    data.setup()
    with pytest.raises(UserError, match="no pairs to train on"):
        data.train_dataloader()


def test_the_split_file_is_written_once_and_read_back(make_set: Callable[..., str], tmp_path: Path) -> None:
    root = make_set({"ir": 1, "vi": 3}, [f"{number:02d}.png" for number in range(20)])
    path = tmp_path / "splits" / "mine.yaml"
    data = FusionData(root, FOLDERS, split_file=str(path), num_workers=0)
    data.prepare_data()
    data.setup()
    edited = "train: ['00', '01']\nval: ['02']\ntest: ['03']\n"
    assert path.read_text() != edited
    path.write_text(edited)
    again = FusionData(root, FOLDERS, split_file=str(path), num_workers=0)
    again.prepare_data()
    again.setup()
    assert path.read_text() == edited
    assert [batch["name"] for batch in again.test_dataloader()] == [["03"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_during_training_names_itself(make_set: Callable[..., str], workers: int) -> None:
    root = make_set({"ir": 1, "vi": 3}, [f"{number}.png" for number in range(10)])
    data = FusionData(root, FOLDERS, crop_size=16, batch_size=1, num_workers=workers)
    data.setup()
    for path in (Path(root) / "vi").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"^the image `[^`]*vi/\d\.png` is cut short: [^\n]*$"):
        next(iter(data.train_dataloader()))


def test_the_check_finds_broken_files_before_the_run(make_set: Callable[..., str]) -> None:
    root = make_set({"ir": 1, "vi": 3}, [f"{number}.png" for number in range(10)])
    data = FusionData(root, FOLDERS, check=True)
    data.prepare_data()
    broken = Path(root) / "vi" / "3.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(UserError, match=r"^the image `[^`]*3\.png` is cut short"):
        FusionData(root, FOLDERS, check=True).prepare_data()
    other = Path(root) / "ir" / "7.png"
    other.write_bytes(cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes())
    with pytest.raises(UserError, match=r"^2 of 10 pairs cannot be used, one because: "):
        FusionData(root, FOLDERS, check=True).prepare_data()


OPTIONS = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Model(BoringModel):
    """Notes the names it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[list[str]] = []

    def training_step(self, batch: FusionBatch, batch_index: int) -> torch.Tensor:
        self.names.append(batch["name"])
        return self.layer(batch["source_a"].flatten()[:32]).sum()

    def validation_step(self, batch: FusionBatch, batch_index: int) -> None:
        pass


def _small() -> FusionData:
    return FusionData(length=8, batch_size=2, crop_size=32, scene_size=32, num_workers=0)


def test_a_checkpoint_of_a_run_loads_without_pickle(tmp_path: Path) -> None:
    """Nothing of the data module gets in the way of `weights_only` loading."""
    trainer = Trainer(
        max_steps=1, limit_val_batches=0, default_root_dir=tmp_path, enable_checkpointing=False, **OPTIONS
    )
    trainer.fit(Model(), _small())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert torch.load(tmp_path / "run.ckpt", weights_only=True)["global_step"] == 1


def test_overfitting_repeats_the_same_batches(tmp_path: Path) -> None:
    """`overfit_batches` puts its own sampler into the loader."""
    model = Model()
    limits = {"overfit_batches": 2, "max_epochs": 2, "limit_val_batches": 0, "enable_checkpointing": False}
    Trainer(default_root_dir=tmp_path, **limits, **OPTIONS).fit(model, _small())
    assert model.names == 2 * [["street_00000", "street_00001"], ["street_00002", "street_00003"]]


def test_a_script_that_has_not_read_all_batches_ends() -> None:
    """And a process that it forks, as several devices in a notebook do, reads ahead by itself."""
    script = """
import multiprocessing
from fusion_lightning.datamodules import FusionData
data = FusionData(length=16, scene_size=64, crop_size=32, num_workers=1)
data.setup("test")
loader = data.test_dataloader()
next(iter(loader))
forked = multiprocessing.get_context("fork").Process(target=lambda: next(iter(data.test_dataloader())))
forked.start()
forked.join()
assert forked.exitcode == 0
print(next(iter(loader))["name"][0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split()[-1] == "street_00000"
    assert not done.stderr
