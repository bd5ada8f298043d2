"""Every data set loads as downloaded, from its one YAML."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from fusion_lightning.batch import FusionBatch
from fusion_lightning.datamodules import FusionData

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "data"
NUMBERS = [f"{number:05d}.png" for number in range(40)]
SLICES = [f"{subject}{number:03d}.png" for subject in (9, 16, 25, 30) for number in range(10)]


def _arguments(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["init_args"]


# folders and channels as downloaded, names in each, channels of the two sources
LAYOUTS: dict[str, tuple[dict[str, int], list[str], tuple[int, int]]] = {
    "llvip": (
        {f"{folder}/{split}": 3 for folder in ("infrared", "visible") for split in ("train", "test")},
        [f"{number:06d}.jpg" for number in range(30)],
        (1, 3),
    ),
    "msrs": (
        {f"{split}/{folder}": channels for split in ("train", "test") for folder, channels in (("ir", 1), ("vi", 3))},
        [f"{number:05d}{'DN'[number % 2]}.png" for number in range(30)],
        (1, 3),
    ),
    "roadscene": (
        {"cropinfrared": 3, "crop_LR_visible": 3},
        [*(f"FLIR_{n:05d}.jpg" for n in range(20)), *(f"FLIR_video_{n:05d}.jpg" for n in range(20))],
        (1, 3),
    ),
    "fmb": (
        {f"{split}/{folder}": 3 for split in ("train", "test") for folder in ("Infrared", "Visible", "Label")},
        NUMBERS,
        (1, 3),
    ),
    "harvard_pet_mri": ({"PET": 3, "MRI": 1}, SLICES, (3, 1)),
    "harvard_spect_mri": ({"train/SPECT": 3}, SLICES, (3, 1)),
    "harvard_ct_mri": ({"CT": 1, "MRI": 1}, SLICES, (1, 1)),
    "ems": (
        {
            f"{kind}/{split}/{folder}": 3
            for kind in ("Haze", "Low_light")
            for split in ("train", "eval")
            for folder in ("Infrared", "Infrared_gt", "Visible", "Visible_gt")
        },
        NUMBERS[:8],
        (1, 3),
    ),
}


WITH_FILES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if _arguments(path.stem)["root"] is not None)


def _layout(name: str) -> tuple[dict[str, int], list[str], tuple[int, int]]:
    """What is known of a set's download, else what its fragment says: every folder holds every name."""
    if name in LAYOUTS:
        return LAYOUTS[name]
    arguments = _arguments(name)
    channels = tuple(3 if arguments["color"] == side else 1 for side in "ab")
    folders = {
        folder.replace("*", "any").replace("{split}", split): 3
        for folder in arguments["folders"].values()
        for split in ("train", "test")
    }
    return folders, NUMBERS, (channels[0], channels[1])


def _load(name: str, root: str | None, *arguments: str) -> FusionData:
    """The data module that the command line makes of a fragment."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(FusionData, "data", subclass_mode=True)
    small = ["--data.crop_size=32", "--data.num_workers=0", "--data.batch_size=2", *arguments]
    roots = [] if root is None else [f"--data.root={root}"]
    return parser.instantiate(parser.parse_args([f"--data={CONFIGS / name}.yaml", *roots, *small])).data


def _batches(data: FusionData) -> Iterator[FusionBatch]:
    data.prepare_data()
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        yield next(iter(loader))


@pytest.mark.parametrize("name", WITH_FILES)
def test_a_set_loads_as_downloaded(make_set: Callable[..., str], name: str) -> None:
    folders, names, channels = _layout(name)
    if name == "harvard_spect_mri":
        # the usual split puts slices of one subject on both sides
        make_set({"train/SPECT": 3, "train/MRI": 1}, names[::2])
        root = make_set({"test/SPECT": 3, "test/MRI": 1}, names[1::2])
    else:
        root = make_set(folders, names)
    (Path(root) / next(iter(folders)) / "Thumbs.db").write_bytes(b"stray")
    data = _load(name, root)
    trains = _arguments(name).get("split") != "test"
    batches = list(_batches(data)) if trains else [*_evaluate(data)]
    for batch in batches:
        assert tuple(batch[key].shape[1] for key in ("source_a", "source_b")) == channels
    if trains:
        assert batches[0]["source_a"].shape[2:] == batches[0]["clean_b"].shape[2:] == (32, 32)
    assert batches[-1]["source_b"].shape[2:] == (40, 48)


def _evaluate(data: FusionData) -> Iterator[FusionBatch]:
    data.setup()
    yield next(iter(data.test_dataloader()))


@pytest.mark.parametrize(("name", "channels"), [("synthetic", (1, 3)), ("synthetic_medical", (3, 1))])
def test_scenes_need_no_files(name: str, channels: tuple[int, int]) -> None:
    for batch in _batches(_load(name, None, "--data.scene_size=64", "--data.length=8")):
        assert (batch["source_a"].shape[1], batch["source_b"].shape[1]) == channels


def test_pairs_with_clean_twins_are_left_as_delivered(make_set: Callable[..., str]) -> None:
    folders, names, _ = LAYOUTS["ems"]
    data = _load("ems", make_set(folders, names), "--data.scenarios=[noise]")
    for batch in _batches(data):
        for degradation in batch["degradation"]:
            assert degradation["scenario"] in ("Haze", "Low_light")
            assert degradation["a"] == degradation["b"] == []


REAL = {
    "roadscene": ("RoadScene", []),
    "harvard_pet_mri": ("Harvard/PET-MRI", []),
    "harvard_spect_mri": ("Harvard/SPECT-MRI", []),
    "harvard_ct_mri": ("Harvard/CT-MRI", []),
    "tno": ("TNO", []),
    "degraded_clean": ("MSRS_degraded", []),
    "paired": ("IFCNN_IV", ["--data.folders={a: '*_IR.png', b: '*_Vis.png'}"]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_load(shared: Path, name: str) -> None:
    folder, arguments = REAL[name]
    data = _load(name, str(shared / "data" / folder), *arguments, "--data.check=true")
    for batch in _evaluate(data) if name == "tno" else _batches(data):
        for key in ("source_a", "source_b", "clean_a", "clean_b"):
            assert 0 <= batch[key].min() < batch[key].max() <= 1


def test_a_published_degraded_pair_is_smaller_in_infrared(shared: Path) -> None:
    folders = "{a: ir_complex_degradation, b: vi_complex_degradation}"
    data = _load("degraded_clean", str(shared / "data" / "M3FD_degraded"), f"--data.folders={folders}")
    batch = next(_evaluate(data))
    assert batch["source_a"].shape == (1, 1, 192, 256)
    assert batch["source_b"].shape == (1, 3, 768, 1024)
    assert batch["degradation"][0]["scenario"] == "delivered"
