"""Every shipped configuration is run: fit, test and predict."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from fusion_lightning import methods
from fusion_lightning.configuration import config_folder
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


def learns(name: str) -> bool:
    """Whether there is anything to train."""
    config = yaml.safe_load((config_folder() / f"{name}.yaml").read_text())
    method: type[FusionMethod] = getattr(methods, config["model"]["class_path"])
    return method.training_step is not FusionMethod.training_step


@pytest.fixture(scope="session")
def stages(stage1: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Checkpoints of the first stages by their configuration, each trained for two steps when it is asked for."""
    folder = tmp_path_factory.mktemp("stages")

    @cache
    def train(name: str) -> str:
        if name == "cled_stage1":
            return stage1
        configs = [f"--config={name}.yaml", "--config=smoke.yaml", *TINY, *FEW_STEPS.get(name, []), "--run_id=r"]
        run("fit", *configs, log_dir=folder)
        return str(folder / name / "r" / "checkpoints" / "last.ckpt")

    return train


def _needs(name: str, stages: Callable[[str], str]) -> list[str]:
    first = name.replace("stage2", "stage1")
    return [] if first == name else [f"--model.stage1_checkpoint={stages(first)}"]


@pytest.mark.parametrize("name", RUNS)
def test_every_run_fits_tests_and_predicts(name: str, stages: Callable[[str], str], tmp_path: Path) -> None:
    configs = [f"--config={name}.yaml", "--config=smoke.yaml", *TINY, *FEW_STEPS.get(name, []), "--run_id=r"]
    checkpoint = []
    if learns(name):
        run("fit", *configs, *_needs(name, stages), log_dir=tmp_path)
        checkpoint = [f"--ckpt_path={tmp_path / name / 'r' / 'checkpoints' / 'last.ckpt'}"]
    run("test", *configs, *checkpoint, log_dir=tmp_path)
    run("predict", *configs, *checkpoint, log_dir=tmp_path)
    folder = tmp_path / name / "r"
    table = (folder / "scores.csv").read_text().splitlines()
    assert table[0].startswith("name,scenario,")
    assert table[-1].startswith("mean,")
    assert list((folder / "predictions").rglob("*.png"))
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["class_path"]


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
