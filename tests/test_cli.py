"""The front door: help, mistakes, resuming, and what a run leaves behind."""

import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fusion_lightning.configuration import one_sentence, resolve_config_names
from fusion_lightning.imaging.io import write_image
from fusion_lightning.main import FUNCTION_COMMANDS, TRAINER_COMMANDS, main

from .conftest import TINY, Code


@pytest.fixture
def places(tmp_path: Path, stage1: str) -> dict[str, str]:
    """Good and bad files to point commands at."""
    (tmp_path / "damaged.ckpt").write_bytes(b"PK\x03\x04 no more")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with (tmp_path / "code.ckpt").open("wb") as file:
        pickle.dump(Code(), file)
    (tmp_path / "broken.yaml").write_text("model: [")
    (tmp_path / "typo.yaml").write_text("model: {init_args: {sizes: tiny}}")
    (tmp_path / "wrong_key.yaml").write_text("modle: {init_args: {size: tiny}}")
    for folder in ("a", "b", "other", "empty"):
        (tmp_path / folder).mkdir()
    for folder, names in {"a": "xy", "b": "xy", "other": "xz"}.items():
        for name in names:
            write_image(tmp_path / folder / f"{name}.png", np.full((20, 30), 99, np.uint8))
    return {"TMP": str(tmp_path), "STAGE1": stage1}


MISTAKES = {
    "fitt": (2, "did you mean 'fit'"),
    "fit": (2, "give --config NAME.yaml"),
    "fit --config": (2, "expected one argument"),
    "fit --config cled_stage1.yml": (1, "did you mean `cled_stage1.yaml`"),
    "fit --config none.yaml": (1, "nor among the shipped configurations; `list configs` shows all"),
    "fit --config cled_stage1.yaml --data tmo.yaml": (1, "did you mean `tno.yaml`? `list data` shows all"),
    "sweep --config serch_cled_stage1.yaml": (1, "did you mean `search_cled_stage1.yaml`"),
    "sweep --config nothere.yaml": (1, "nor among the shipped configurations; `list configs` shows all"),
    "fit --config TMP/none.yaml": (1, "there is no such file"),
    "fit --config TMP/broken.yaml": (2, "Problems parsing config"),
    "fit --config cled_stage1.yaml --config TMP/typo.yaml": (
        2,
        "typo.yaml: model: CLEDStage1: there is no option 'sizes'; did you mean `size`",
    ),
    "fit --config cled_stage1.yaml --config TMP/wrong_key.yaml": (
        2,
        "wrong_key.yaml: there is no option 'modle.init_args.size'; did you mean `model`",
    ),
    "fit --config cled_stage1.yaml --model.size huge": (2, "size: it must be"),
    "fit --config cled_stage1.yaml --model CLEDStage9": (
        2,
        "no class CLEDStage9; did you mean `CLEDStage2`",
    ),
    "fit --config cled_stage1.yaml --model torch.nn.Linear": (2, "subclass of FusionMethod"),
    "fit --config cled_stage1.yaml --trainer.max_stepz 3": (
        2,
        "did you mean `trainer.max_steps`",
    ),
    "fit --config cled_stage1.yaml --model.optimizer.lrr 1": (2, "there is no option 'lrr'; did you mean `lr`?"),
    "fit --config cled_stage1.yaml --trainer.max_steps abc": (2, "it must be int, but got abc"),
    "fit --config cled_stage1.yaml --model.metrics [Qabff]": (1, "Qabff"),
    "fit --config cled_stage1.yaml --data.root TMP/none": (1, "does not exist"),
    "fit --config cled_stage1.yaml --data.root TMP/empty": (1, "no images"),
    "fit --config cled_stage1.yaml --data.batch_size 4": (1, "`quotas` ask for 8"),
    "fit --config cled_stage1.yaml --data.scenarios [fog]": (1, "neither a scenario nor a degradation"),
    "fit --config cled_stage1.yaml --run_id a/b": (1, "--run_id must be made of"),
    "fit --config cled_stage2.yaml": (1, "needs `stage1_checkpoint`"),
    "fit --config cled_stage2.yaml --model.stage1_checkpoint TMP/none.ckpt": (1, "there is no checkpoint"),
    "fit --config cled_stage2.yaml --model.stage1_checkpoint TMP/damaged.ckpt": (1, "cannot be read as a checkpoint"),
    "fit --config cled_stage2.yaml --model.stage1_checkpoint TMP/code.ckpt": (1, "cannot be read as a checkpoint"),
    "fit --config average.yaml": (1, "has nothing to train"),
    "test --config cled_stage1.yaml": (1, "needs --ckpt_path"),
    "test --config cled_stage1.yaml --ckpt_path TMP/none.ckpt": (1, "there is no checkpoint"),
    "test --config cled_stage1.yaml --ckpt_path TMP/foreign.ckpt": (1, "not written by a fusion method"),
    "test --config cled_stage2.yaml --ckpt_path STAGE1": (
        1,
        "holds a CLEDStage1, but the configuration asks for CLEDStage2",
    ),
    "fuse --checkpoint STAGE1 --source-a TMP/a --output TMP/out": (2, "source_b"),
    "fuse --checkpoint STAGE1 --sourc-a TMP/a": (2, "did you mean `source_a`"),
    "fuse ir.png vis.png": (2, "ir.png vis.png follows no option: values are given as --option VALUE"),
    "degrade --input TMP/empty --output TMP/out --scenario blur": (
        1,
        "folders there are: none; name the folders with --folder_a and --folder_b",
    ),
    "fuse --source-a ir.png": (2, "source_b, output: not given, see --help"),
    "list metods": (1, "there is no such kind; did you mean `methods`"),
    "list things": (1, "there is no such kind; kinds are models, methods, "),
    "fuse --checkpoint STAGE1 --source-a TMP/none --source-b TMP/b --output TMP/out": (1, "no such file or folder"),
    "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/empty --output TMP/out": (1, "holds no images"),
    "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/other --output TMP/out": (
        1,
        "2 images without a partner of the same name: `y`",
    ),
    "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/b --output TMP/out --strength-a -1": (1, "strength_a"),
    "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/b --output TMP/out --device gpu9": (1, "--device gpu9"),
    "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/b --output TMP/typo.yaml": (1, "is a file"),
    "fuse --checkpoint TMP/damaged.ckpt --source-a TMP/a --source-b TMP/b --output TMP/out": (1, "cannot be read"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_gives_one_sentence(
    command: str, places: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = MISTAKES[command]
    monkeypatch.chdir(places["TMP"])
    for name, place in places.items():
        command = command.replace(name, place)
    before = sorted(Path(places["TMP"]).rglob("*"))
    assert main(shlex.split(command)) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert words in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert sorted(Path(places["TMP"]).rglob("*")) == before


def test_help_lists_every_command_without_importing_anything_heavy() -> None:
    script = "import sys; from fusion_lightning.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert all(f"  {command}" in shown for command in TRAINER_COMMANDS | FUNCTION_COMMANDS)


@pytest.mark.parametrize("command", ["fit", *FUNCTION_COMMANDS])
def test_every_command_explains_its_arguments(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--" in capsys.readouterr().out


def test_a_config_in_the_working_directory_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_config_names(["--config=smoke.yaml"])[0].endswith("configs/trainer/smoke.yaml")
    (tmp_path / "smoke.yaml").touch()
    assert resolve_config_names(["--config", "smoke.yaml"]) == ["--config", "smoke.yaml"]


def test_the_parsers_report_becomes_one_sentence() -> None:
    report = (
        'Parser key "data":\n  Does not validate against any of the Union subtypes\n  Errors:\n'
        "    - Problem with given class_path 'a.FusionData':\n        Option 'crop' is not accepted"
    )
    assert one_sentence(report) == "data: FusionData: there is no option 'crop'"


def _fit(folder: Path, run_id: str, steps: int, every: int, *more: str) -> Path:
    arguments = [*TINY, f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={every}", "--data.length=10"]
    arguments += [f"--checkpoint.every_n_train_steps={every}", "--data.crop_size=16", f"--run_id={run_id}", *more]
    arguments += ["--previews.count=0", f"--log_dir={folder}"]
    assert main(["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *arguments]) == 0
    return folder / "cled_stage1" / run_id / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize("steps", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_some_steps_and_as_many_more_equal_all_at_once_bit_for_bit(steps: int, tmp_path: Path) -> None:
    straight = torch.load(_fit(tmp_path, "straight", 2 * steps, steps), weights_only=True)
    first = _fit(tmp_path, "resumed", steps, steps)
    resumed = torch.load(_fit(tmp_path, "resumed", 2 * steps, steps, f"--ckpt_path={first}"), weights_only=True)
    assert straight["global_step"] == resumed["global_step"] == 2 * steps
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, resumed[part][name]) for name, value in straight[part].items())
    moments = (saved["optimizer_states"][0]["state"] for saved in (straight, resumed))
    for one, other in zip(*(state.values() for state in moments), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_checkpoint_keeps_its_methods_size(
    tmp_path: Path, stage1: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.yaml").write_text("model: {init_args: {size: base, sampling_steps: 2}}")
    typed = [word for word in TINY if not word.startswith("--model")]
    line = ["test", "--config=cled_stage1.yaml", "--config=smoke.yaml", *typed, f"--ckpt_path={stage1}"]
    assert main([*line, f"--config={tmp_path / 'large.yaml'}", f"--log_dir={tmp_path}"]) == 0
    assert "taken from the checkpoint, not from the configuration: size tiny (not base)" in caplog.text
    assert main([*line, "--model.size=base", f"--log_dir={tmp_path}"]) == 1
    assert "saved with another size, which can be left out" in capfd.readouterr().err


def test_what_is_typed_beside_a_checkpoint_is_used_and_recorded(tmp_path: Path, stage1: str) -> None:
    line = ["test", "--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY, f"--ckpt_path={stage1}"]
    tables = []
    for more in ([], ["--model.sampling_steps=1"]):
        folder = tmp_path / str(len(tables))
        assert main([*line, *more, f"--log_dir={folder}"]) == 0
        run = folder / "cled_stage1" / "r"  # of the checkpoint, where it was asked for
        tables.append((run / "scores.csv").read_text())
        config = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
        assert (config["sampling_steps"], config["size"]) == (1 if more else 3, "tiny")
    assert tables[0] != tables[1]


def test_fuse_keeps_the_size_and_never_overwrites(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    folder = Path(places["TMP"])
    command = [
        "fuse",
        "--checkpoint",
        places["STAGE1"],
        "--source-a",
        str(folder / "a"),
        "--source-b",
        str(folder / "b"),
    ]
    command += ["--output", str(folder / "out"), "--trajectory"]
    assert main(command) == 0
    for part in ("restored_a", "restored_b"):
        assert cv2.imread(str(folder / "out" / part / "x.png"), cv2.IMREAD_UNCHANGED).shape == (20, 30)
    assert (folder / "out" / "trajectory" / "y.png").is_file()
    kept = (folder / "out" / "restored_a" / "x.png").stat().st_mtime_ns
    assert main(command) == 0  # goes on, and has nothing left to do
    assert "were there already" in capsys.readouterr().out
    assert main([*command, "--strength-a=0.5"]) == 1
    assert "already there" in capsys.readouterr().err
    assert (folder / "out" / "restored_a" / "x.png").stat().st_mtime_ns == kept
    assert main([*command, "--overwrite"]) == 0
