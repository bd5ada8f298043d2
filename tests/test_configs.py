"""Every shipped configuration is run: fit, test, predict and fuse, and all in one benchmark."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from fusion_lightning import methods
from fusion_lightning.configuration import config_folder
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.methods import FusionMethod

from .conftest import TINY, run

FEW_STEPS = {name: ["--model.sampling_steps=3"] for name in ("ddfm", "ccf", "text_difuse_stage1")}
"""Methods that sample in many steps."""
RUNS = sorted(path.stem for path in config_folder().glob("*.yaml"))
ELSEWHERE = {"ddp_2node.yaml", "slurm.yaml"}
"""Overlays that need several machines or a batch system."""
OVERLAYS = sorted(
    path.name
    for folder in ("trainer", "ablations", "scenarios")
    for path in (config_folder() / folder).glob("*.yaml")
    if path.name not in ELSEWHERE
)
ONE_NUMBER = {"as_published.yaml", "without_color.yaml", "without_intensity.yaml"}
"""Overlays that change one number or switch: run by `make test-all`."""


def class_of(name: str) -> str:
    """The method that a configuration is of."""
    return str(yaml.safe_load((config_folder() / f"{name}.yaml").read_text())["model"]["class_path"])


def learns(name: str) -> bool:
    """Whether there is anything to train."""
    method: type[FusionMethod] = getattr(methods, class_of(name))
    return method.learns()


@pytest.fixture(scope="session")
def stages(stage1: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Checkpoints by their configuration, each trained for two steps when it is asked for."""
    folder = tmp_path_factory.mktemp("stages")

    @cache
    def train(name: str) -> str:
        if name == "cled_stage1":
            return stage1
        configs = [f"--config={name}.yaml", "--config=smoke.yaml", *TINY, *FEW_STEPS.get(name, []), "--run_id=r"]
        run("fit", *configs, *_needs(name, train), log_dir=folder)
        return str(folder / name / "r" / "checkpoints" / "last.ckpt")

    return train


def _needs(name: str, stages: Callable[[str], str]) -> list[str]:
    first = name.replace("stage2", "stage1")
    return [] if first == name else [f"--model.stage1_checkpoint={stages(first)}"]


@pytest.mark.parametrize("name", RUNS)
def test_every_run_fits_tests_predicts_and_fuses(name: str, stages: Callable[[str], str], tmp_path: Path) -> None:
    configs = [f"--config={name}.yaml", "--config=smoke.yaml", *TINY, *FEW_STEPS.get(name, []), "--run_id=r"]
    checkpoint = []
    method = class_of(name)
    if learns(name):
        run("fit", *configs, *_needs(name, stages), log_dir=tmp_path)
        method = str(tmp_path / name / "r" / "checkpoints" / "last.ckpt")
        checkpoint = [f"--ckpt_path={method}"]
    run("test", *configs, *checkpoint, log_dir=tmp_path)
    run("predict", *configs, *checkpoint, log_dir=tmp_path)
    folder = tmp_path / name / "r"
    table = (folder / "scores.csv").read_text().splitlines()
    assert table[0].startswith("name,scenario,")
    assert table[-1].startswith("mean,")
    assert list((folder / "predictions").rglob("*.png"))
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["class_path"]
    _fuses(name, method, tmp_path)


OTHER_OPTION = {
    "registration": ["--method=Average", "--align"],
    "classical_estimator": ["--method=drfusion", "--degradation-a=auto", "--estimator"],
    "degradation_estimator": ["--method=drfusion", "--degradation-a=auto", "--estimator"],
}
"""What `fuse` is given by another option than ``--method``."""


def _fuses(name: str, method: str, folder: Path) -> None:
    """An infrared and a visible picture of an odd size, in colour; what only restores, restores both."""
    *others, option = OTHER_OPTION.get(name, ["--method"])
    height, width = 37, 45
    for side, shape in (("a", (height, width)), ("b", (height, width, 3))):
        write_image(folder / f"{side}.png", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    sources = [f"--source-{side}={folder / f'{side}.png'}" for side in "ab"]
    assert main(["fuse", *others, f"{option}={method}", *sources, f"--output={folder / 'fused'}"]) == 0
    pictures = list((folder / "fused").rglob("*.png"))
    assert len(pictures) in (1, 2)
    for picture in pictures:
        assert read_image(picture).shape[:2] == (height, width)


@pytest.mark.slow
def test_one_benchmark_takes_them_all(stages: Callable[[str], str], tmp_path: Path) -> None:
    recipe = {
        "methods": {name: stages(name) if learns(name) else class_of(name) for name in RUNS},
        "data": {"street": {"config": "synthetic.yaml", "length": 8, "scene_size": 32}},
        "scenarios": ["drfusion_noise"],
        "metrics": "Qabf",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["benchmark", f"--config={tmp_path / 'recipe.yaml'}", f"--output={tmp_path / 'benchmark'}"]) == 0
    trials = [yaml.safe_load(path.read_text()) for path in (tmp_path / "benchmark" / "trials").rglob("*.json")]
    assert {trial["method"] for trial in trials} == set(RUNS)
    for trial in trials:
        (image,) = trial["images"]
        assert image["scores"], trial["method"]
        assert all(np.isfinite(score) for score in image["scores"].values()), trial["method"]


@pytest.mark.parametrize(
    "overlay", [pytest.param(name, marks=pytest.mark.slow if name in ONE_NUMBER else ()) for name in OVERLAYS]
)
def test_every_overlay_fits(overlay: str, stages: Callable[[str], str], tmp_path: Path) -> None:
    text = next(config_folder().rglob(overlay)).read_text()
    named = re.search(r"--config to (\w+)", text)
    name = named.group(1) if named else "cled_stage1"
    needs = [] if overlay == "one_stage.yaml" else _needs(name, stages)
    configs = [f"--config={name}.yaml", "--config=smoke.yaml", f"--config={overlay}"]
    run(
        "fit",
        *configs,
        *TINY,
        "--data.batch_size=2",
        "--data.quotas=null",
        "--model.metrics=[Qabf]",
        *needs,
        *FEW_STEPS.get(name, []),
        log_dir=tmp_path,
    )


def test_names_are_unique_over_all_folders() -> None:
    names = [path.name for path in config_folder().rglob("*.yaml")]
    assert len(names) == len(set(names))


def test_canonical_configurations_are_the_papers_recipes() -> None:
    for name, batch in (("cled_stage1", 8), ("cled_stage2", 4)):
        config = yaml.safe_load((config_folder() / f"{name}.yaml").read_text())
        assert config["trainer"]["max_steps"] == 300_000
        assert config["data"]["init_args"]["batch_size"] == batch
        assert config["data"]["init_args"]["crop_size"] == 256
        assert config["trainer"]["callbacks"][0]["init_args"]["decay"] == 0.995
        assert config["model"]["init_args"]["size"] == "large"
    stage1 = yaml.safe_load((config_folder() / "cled_stage1.yaml").read_text())
    assert stage1["model"]["init_args"]["optimizer"]["init_args"] == {"lr": 8e-5, "betas": [0.9, 0.99]}
    assert sum(stage1["data"]["init_args"]["quotas"].values()) == 8
