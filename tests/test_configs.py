"""Every shipped configuration is run: fit, test and predict."""

import re
from pathlib import Path

import pytest
import yaml

from fusion_lightning.configuration import config_folder
from fusion_lightning.main import main

RULES = {"average", "maximum", "laplacian_pyramid", "guided_filter", "wavelet_maximum", "restore_then_fuse"}
RUNS = sorted(path.stem for path in config_folder().glob("*.yaml"))
ELSEWHERE = {"ddp_2node.yaml", "slurm.yaml"}
"""Overlays that need several machines or a batch system."""
OVERLAYS = sorted(
    path.name
    for folder in ("trainer", "ablations", "scenarios")
    for path in (config_folder() / folder).glob("*.yaml")
    if path.name not in ELSEWHERE
)
ONE_NUMBER = {f"drfusion_t{steps}.yaml" for steps in (2, 4, 5)} | {"without_color.yaml", "without_intensity.yaml"}
"""Overlays that differ from a neighbour in one number: run by `make test-all`."""
TINY = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--checkpoint.every_n_train_steps=2"]
TINY += ["--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1", "--trainer.limit_predict_batches=1"]
TINY += ["--model.size=tiny", "--data.crop_size=32", "--data.scene_size=64", "--data.length=16", "--data.num_workers=0"]
TINY += ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def run(command: str, *args: str, log_dir: Path) -> None:
    assert main([command, *args, f"--log_dir={log_dir}"]) == 0, f"{command} {args}"


@pytest.fixture(scope="session")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of a stage 1 trained for two steps, through the command line."""
    folder = tmp_path_factory.mktemp("stage1")
    run("fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY, "--run_id=r", log_dir=folder)
    return str(folder / "cled_stage1" / "r" / "checkpoints" / "last.ckpt")


def _needs(name: str, stage1: str) -> list[str]:
    return [f"--model.stage1_checkpoint={stage1}"] if name == "cled_stage2" else []


@pytest.mark.parametrize("name", RUNS)
def test_every_run_fits_tests_and_predicts(name: str, stage1: str, tmp_path: Path) -> None:
    configs = [f"--config={name}.yaml", "--config=smoke.yaml", *TINY, "--run_id=r"]
    checkpoint = []
    if name not in RULES:
        run("fit", *configs, *_needs(name, stage1), log_dir=tmp_path)
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
def test_every_overlay_fits(overlay: str, stage1: str, tmp_path: Path) -> None:
    text = next(config_folder().rglob(overlay)).read_text()
    named = re.search(r"--config to (\w+)", text)
    name = named.group(1) if named else "cled_stage1"
    needs = [] if overlay == "one_stage.yaml" else _needs(name, stage1)
    configs = [f"--config={name}.yaml", "--config=smoke.yaml", f"--config={overlay}"]
    run(
        "fit",
        *configs,
        *TINY,
        "--data.batch_size=2",
        "--data.quotas=null",
        "--model.metrics=[Qabf]",
        *needs,
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
