"""The data module: any set of paired folders, or scenes rendered from a seed."""

import os
import zlib
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from fusion_lightning.datamodules.check import cache_pairs, check_pairs
from fusion_lightning.datamodules.dataset import FusionDataset, PairSource
from fusion_lightning.datamodules.loader import (
    WORKER_PATIENCE,
    ResumableLoader,
    collate_samples,
    processors,
    start_worker,
)
from fusion_lightning.datamodules.pairing import SPLITS, Folders, PairFiles, find_pairs
from fusion_lightning.datamodules.pairs import FolderPairs, Side
from fusion_lightning.datamodules.sampler import EvaluationSampler, TrainSampler
from fusion_lightning.datamodules.split import Found, SplitRule, Splits, make_splits, read_splits, write_splits
from fusion_lightning.datamodules.synthetic import SyntheticPairs
from fusion_lightning.degradations import Scenario, degrade, scenario
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.windows import Window

_SCENARIOS = (
    "low_light", "over_exposure", "rain", "haze", "blur", "noise", "low_contrast", "stripes", "low_resolution"
)  # fmt: skip
_MEDICAL = ("medical_noise", "medical_blur", "medical_low_resolution")

_NEEDS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class FusionData(LightningDataModule):
    """Data module of image pairs, degraded as configured, in batches of `FusionBatch`.

    A sample depends on the seed, the epoch and its index (in validation, test and prediction on the seed and its index)
    and on nothing else: not on the batch size, the number of workers or of processes, nor on a resume.

    Training batches hold crops. Evaluation takes whole images, one at a time if they come from files.

    Args:
        root: Folder of a data set; None draws synthetic scenes.
        folders: Where ``a`` and ``b`` (and ``clean_a``, ``clean_b``, the twins of sources that were delivered degraded)
            lie under the root: a folder, with ``*`` for any name and ``{split}`` for the split if it stands elsewhere
            than around or inside the folder; or files, such as ``*_IR.png``. None means folders called a and b.
        color: The source of a data set that carries colour. It has three channels, the other one has one and is refused
            if it shows colour; None reads both as grey.
        pair_by: Pair files of the same stem, or by their sorted order.
        split: How pairs become train, val and test: ``auto`` (as the folders say, else by blocks), ``blocks`` of
            neighbouring ids, ``subjects`` (ids less their last three digits), ``test`` (all of them are tested).
        held_out: Parts of the pairs that go to val and test when the folders do not say.
        split_file: YAML file with the names in each split. It is read if it exists and written if not.
        window_a: Which values of source a (and of its clean twin) become black and white: ``percentile:LO,HI``,
            ``raw:LO,HI``, ``suv:LO,HI``, ``minmax``, ``agc`` or ``none``. It has to be named for files of more than 8
            bits that use less than a tenth of their range.
        window_b: The same for source b.
        resize: Bring all images of a pair to the size of this source, stretching them if need be; None leaves them,
            and refuses pairs whose sides have different ratios.
        scenes: What is drawn without a root: ``street`` (infrared and visible) or ``medical`` (functional and
            anatomical).
        length: Number of synthetic pairs to train on; val and test have an eighth of it each.
        scene_size: Side of synthetic scenes in pixels, at least ``crop_size``.
        scenarios: What can go wrong: names of scenarios, or a mapping from a name of your own to the specifications of
            ``a`` and ``b``. Training draws one per sample; in evaluation they take turns. An empty list leaves the
            sources as delivered; None takes the everyday ones.
        quotas: Scenario -> how many of `batch_size` training samples get it.
        crop_size: Side of the training crops in pixels; None trains on whole images of one size.
        margin: How many pixels around a crop are degraded with it and cut off afterwards, as far as the image reaches,
            so that blind methods cannot infer a blur from a crop's dark border. 0 for methods that are told the
            operator, which reaches from border to border.
        flip: Mirror half of the training samples.
        batch_size: Pairs per batch and process.
        split_batch: `batch_size` counts all processes together, so that the effective batch stays as it is when their
            number grows.
        num_workers: Processes that read ahead, per training process; None takes one per processor, at most 8.
        cache: Keep all decoded images in memory.
        check: Read every image before the run starts, and stop if one is broken.
        seed: Of everything random about the data.

    Raises:
        UserError: If the data set, a scenario or a quota cannot be used as asked for.
    """

    def __init__(
        self,
        root: str | None = None,
        folders: Folders | None = None,
        color: Side | None = "b",
        pair_by: Literal["name", "order"] = "name",
        split: SplitRule = "auto",
        held_out: tuple[float, float] = (0.1, 0.2),
        split_file: str | None = None,
        window_a: str | None = None,
        window_b: str | None = None,
        resize: Side | None = None,
        scenes: Literal["street", "medical"] = "street",
        length: int = 256,
        scene_size: int = 256,
        scenarios: list[str] | dict[str, dict[str, str]] | None = None,
        quotas: dict[str, int] | None = None,
        crop_size: int | None = 256,
        margin: int = 0,
        flip: bool = True,
        batch_size: int = 8,
        split_batch: bool = False,
        num_workers: int | None = None,
        cache: bool = False,
        check: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("length", length, 1),
            ("scene_size", scene_size, 1),
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers or 0, 0),
            ("margin", margin, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise UserError(f"`{name}` must be at least {least}, but got {value}")
        if crop_size is not None and crop_size < 1:
            raise UserError(f"`crop_size` must be at least 1, or null for whole images, but got {crop_size}")
        self.root = root and os.path.expanduser(root)
        self.folders: Folders = folders or {"a": "a", "b": "b"}
        if not {"a", "b"} <= set(self.folders) <= set(Folders.__annotations__):
            raise UserError(f"`folders` must name a and b, and may name clean_a and clean_b, but got {self.folders}")
        self.color = color if root is not None else ("a" if scenes == "medical" else "b")
        self.pair_by = pair_by
        self.split: SplitRule = split
        self.held_out = held_out
        self.split_file = split_file and os.path.expanduser(split_file)
        self.windows = (Window(window_a, "--data.window_a"), Window(window_b, "--data.window_b"))
        self.resize = resize
        self.scenes: Literal["street", "medical"] = scenes
        self.length = length
        self.scene_size = max(scene_size, crop_size or 0)
        self.scenarios = _find_scenarios(scenarios, _MEDICAL if root is None and scenes == "medical" else _SCENARIOS)
        self.quotas = quotas
        self.crop_size = crop_size
        self.margin = margin
        self.flip = flip
        self.batch_size = batch_size
        self.split_batch = split_batch
        self.num_workers = processors() if num_workers is None else num_workers
        self.cache = cache
        self.check = check
        self.seed = seed
        self._checked = False
        self._files: Splits | None = None
        self._cut = False
        self._datasets: dict[str, FusionDataset] = {}
        # refuses quotas that do not fit the batch now rather than when training starts
        TrainSampler(1, batch_size, quotas=quotas)
        known = {scenario.name for scenario in self.scenarios}
        if unknown := sorted(set(quotas or {}) - known):
            raise UserError(f"`quotas` must name scenarios ({', '.join(sorted(known))}), but got `{unknown[0]}`")

    def prepare_data(self) -> None:
        """Write the split file if there is none yet, and check the images if asked to; on one process."""
        if self.root is None:
            return
        splits = self._split_files()
        if self.split_file is not None and not os.path.exists(self.split_file):
            write_splits(splits, self.split_file)
        if self.check and not self._checked:
            self._checked = True
            every = {pair.files["a"]: pair for pairs in splits.values() for pair in pairs}
            check_pairs(self._read(list(every.values())))

    def setup(self, stage: str | None = None) -> None:
        """Find the pairs that a stage needs, all of them if it is None."""
        for split in SPLITS if stage is None else _NEEDS[stage]:
            if split in self._datasets:
                continue
            pairs: PairSource
            if self.root is None:
                length = self.length if split == "train" else -(-self.length // 8)
                pairs = SyntheticPairs(self.scenes, split, length, self.scene_size, self.seed)
            else:
                pairs = self._read(self._split_files()[split])
                if split == "test":
                    self._say_what_is_not_tested()
            if self.cache:
                pairs = cache_pairs(pairs, f"Reading {split} images")
            training: dict[str, Any] = (
                {"training": True, "crop_size": self.crop_size, "margin": self.margin, "flip": self.flip}
                if split == "train"
                else {}
            )
            self._datasets[split] = FusionDataset(pairs, self.scenarios, self.seed, **training)

    def state_dict(self) -> dict[str, Any]:
        """What decides which samples come in which order."""
        dataset = self._datasets.get("train")
        found = {"seed": self.seed, "batch_size": self.batch_size, "scenarios": [one.name for one in self.scenarios]}
        if dataset is not None:
            files = [os.path.relpath(path, self.root) for path in self.files("train")]
            names = "\n".join(files) or f"{self.scenes} of {self.scene_size}"
            found |= {"pairs": len(dataset), "checksum of their names": zlib.crc32(names.encode())}
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Say what a run that goes on does so with other data; it goes on with those that are configured."""
        now = self.state_dict()
        before = {key: state_dict.get(key) for key in now}
        changed = [f"{key} {now[key]} instead of {before[key]}" for key in now if before[key] != now[key]]
        if "train" in self._datasets and changed:
            rank_zero_warn(f"this run goes on with other data than before: {', '.join(changed)}")

    def train_dataloader(self) -> ResumableLoader:
        """Crops, in an order drawn anew every epoch."""
        dataset = self._datasets["train"]
        if not len(dataset):
            raise UserError(
                f"`{self.root}` has no pairs to train on with `split: {self.split}`: there are none, or too few to "
                "hold some out for validation and test"
            )
        sampler = TrainSampler(
            len(dataset), self.batch_size, self.seed, self.quotas, *self._process(), split=self.split_batch
        )
        return self._loader(dataset, sampler.batch_size, sampler)

    def val_dataloader(self) -> ResumableLoader:
        """Whole images of the val split."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> ResumableLoader:
        """Whole images of the test split."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        """The same samples as in test."""
        return self._evaluation_loader("test")

    def files(self, split: str) -> list[str]:
        """The files of a split's pairs, in the order of the pairs; none where scenes are drawn."""
        if self.root is None:
            return []
        return [path for pair in self._split_files()[split] for path in pair.files.values()]

    def _find(self) -> Found:
        assert self.root is not None
        return find_pairs(self.root, cast(dict[str, str], self.folders), by_order=self.pair_by == "order")

    def _read(self, pairs: Sequence[PairFiles]) -> FolderPairs:
        return FolderPairs(pairs, self.color, self.windows, self.resize)

    def _split_files(self) -> Splits:
        if self._files is None:
            if self.split_file is not None and os.path.exists(self.split_file):
                self._files = read_splits(self._find(), self.split_file)
            else:
                found = self._find()
                self._files = make_splits(found, self.split, self.held_out)
                self._cut = self.split == "auto" and None in found
        return self._files

    def _say_what_is_not_tested(self) -> None:
        """Say that pairs which no folder puts into a split are held back from the test."""
        splits = self._split_files()
        every = len({pair.name for pairs in splits.values() for pair in pairs})
        if self._cut and len(splits["test"]) < every:
            rank_zero_only(notice)(
                f"{self.root} has no folders of splits: {len(splits['test'])} of its {every} pairs are for the test, "
                "the others for training; `split: test` tests all of them"
            )

    def _evaluation_loader(self, split: str) -> ResumableLoader:
        one_size = self.root is None and all(_keeps_size(scenario) for scenario in self.scenarios)
        sampler = EvaluationSampler(len(self._datasets[split]), *self._process())
        return self._loader(self._datasets[split], self.batch_size if one_size else 1, sampler)

    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(
        self, dataset: FusionDataset, batch_size: int, sampler: TrainSampler | EvaluationSampler
    ) -> ResumableLoader:
        return ResumableLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate_samples,
            worker_init_fn=start_worker,
            persistent_workers=self.num_workers > 0,
            timeout=WORKER_PATIENCE if self.num_workers > 0 else 0,
            pin_memory=torch.cuda.is_available(),
        )


def _find_scenarios(asked: list[str] | dict[str, dict[str, str]] | None, default: Sequence[str]) -> list[Scenario]:
    if isinstance(asked, dict):
        return [scenario({"name": name, **specification}) for name, specification in asked.items()]
    return [scenario(name) for name in (default if asked is None else asked)]


def _keeps_size(scenario: Scenario) -> bool:
    probe, generator = np.zeros((64, 64, 1), np.float32), np.random.default_rng(0)
    return all(degrade(probe, side, generator)[0].shape == probe.shape for side in (scenario.a, scenario.b))
