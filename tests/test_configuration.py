"""Configuration files as people write them: names of others in them, aliases, numbers, any place and any locale."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fusion_lightning
from fusion_lightning.configuration import read_yaml
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import write_image
from fusion_lightning.main import main

TEST = "test --config average.yaml --config mine.yaml --trainer.logger false --run_id r --trainer.accelerator cpu"
SMALL = "--data.scene_size 64 --data.length 16 --trainer.limit_test_batches 1 --data.num_workers 0"


def _bomb(key: str) -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [
        f"{one}: &{one} [{','.join(['*' + before] * 9)}]" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join([*lines, f"{key}: *i", ""])


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("fit --config average.yaml --config mine.yaml", "model"),
        ("degrade --config mine.yaml --input x --output o", "scenario"),
        ("benchmark --config mine.yaml", "methods"),
        ("sweep --config mine.yaml", "parameters"),
        ("fit --config average.yaml --data mine.yaml", "init_args"),
    ],
)
def test_a_file_that_multiplies_itself_is_refused_at_once(
    line: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(_bomb(key))
    assert main(line.split()) in (1, 2)
    assert "aliases" in capsys.readouterr().err


def test_a_file_that_holds_itself_is_refused_and_aliases_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1e-4, *a]")
    with pytest.raises(UserError, match="aliases"):
        read_yaml(path, "a test")
    path.write_text("a: &a {x: 1e-4, y: [1, 2]}\nb: {<<: *a, y: *a}")
    assert read_yaml(path, "a test")["b"] == {"x": 1e-4, "y": {"x": 1e-4, "y": [1, 2]}}


@pytest.mark.parametrize("place", ["shipped", "here", "beside"])
def test_a_fragment_that_a_file_names_is_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "elsewhere" if place == "beside" else tmp_path
    folder.mkdir(exist_ok=True)
    name = "synthetic.yaml" if place == "shipped" else "fragment.yaml"
    if place != "shipped":
        (folder / name).write_text("class_path: FusionData\ninit_args: {scenarios: [clean]}\n")
    (folder / "mine.yaml").write_text(f"data: {name}\n")
    line = TEST.replace("mine.yaml", str(folder / "mine.yaml"))
    assert main([*line.split(), *SMALL.split(), "--trainer.enable_progress_bar=false"]) == 0


def test_a_fragment_that_is_nowhere_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("data: nowhere.yaml\n")
    assert main(TEST.split()) == 2
    assert "there is no nowhere.yaml here, beside the file that names it" in capsys.readouterr().err


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def _type(line: str, folder: Path, *python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*(python or (sys.executable, "-m", "fusion_lightning")), *line.split()]
    settings = {**os.environ, "WANDB_MODE": "offline", **environment}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, timeout=200, encoding="utf-8")


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "größe.yaml").write_text("# ± größer\nmodel: {init_args: {metrics: [MI]}}\n", encoding="utf-8")
    line = f"{TEST.replace('mine.yaml', 'größe.yaml')} {SMALL} --log_dir läufe"
    done = _type(line, tmp_path, **ASCII)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "läufe" / "average" / "r" / "scores.csv").is_file()


@pytest.mark.parametrize("more", [{}, {"PYTHONIOENCODING": "ascii"}], ids=["locale", "PYTHONIOENCODING"])
def test_scores_are_shown_and_written_where_output_is_ascii(more: dict[str, str], tmp_path: Path) -> None:
    for folder in ("ir", "vi"):
        write_image(tmp_path / folder / "x.png", np.random.default_rng(0).integers(0, 256, (32, 40)).astype(np.uint8))
    line = "evaluate --source-a ir --source-b vi --fused ir --metrics MI --output s.csv"
    done = _type(line, tmp_path, **ASCII, **more)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "s.csv").is_file()


def test_the_program_runs_isolated_and_by_its_short_name(tmp_path: Path) -> None:
    isolated = _type("--version", tmp_path, sys.executable, "-I", "-m", "fusion_lightning", **ASCII)
    script = "import sys; from fusion_lightning.__main__ import run; sys.exit(run())"
    short = _type("--version", tmp_path, sys.executable, "-c", script)
    assert isolated.stdout == short.stdout == f"{fusion_lightning.__version__}\n"
