"""What travels in the wheel, and that every file of the project has its place."""

import ast
import configparser
import itertools
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import fusion_lightning

from .lowest import lowest

ROOT = Path(__file__).parents[1]


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_listed() -> None:
    listed = set(_setup()["options"]["packages"].split())
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "fusion_lightning").rglob("__init__.py")}
    assert listed == found | {"fusion_lightning.configs"}


def test_every_bound_has_its_reason_above_it() -> None:
    lines = (ROOT / "setup.cfg").read_text().split("install_requires =\n")[1].split("\n[")[0].splitlines()
    for above, line in itertools.pairwise(lines):
        if line.strip() and not line.strip().startswith("#"):
            assert above.strip().startswith("#"), line


def test_constraints_satisfy_the_requirements_by_exact_versions() -> None:
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pinned)
    assert "torch==2.13.0" in pinned


def test_help_of_the_makefile_lists_its_targets() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = ["help", "install", "demo", "test", "test-all", "lint", "types", "bench", "notebooks", "clean"]
    assert {line.split()[0] for line in shown.splitlines()} >= set(targets)


def test_every_configuration_is_valid_yaml_with_a_line_that_says_what_it_is() -> None:
    for path in (ROOT / "configs").rglob("*.yaml"):
        text = path.read_text()
        assert text.startswith("# "), path
        assert isinstance(yaml.safe_load(text), dict), path


@pytest.mark.slow
def test_an_installed_wheel_finds_its_configurations_from_any_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert (tmp_path / "site" / "fusion_lightning" / "configs" / path.relative_to(ROOT / "configs")).is_file()
    command = [
        sys.executable,
        "-m",
        "fusion_lightning",
        "fit",
        "--config",
        "cled_stage1.yaml",
        "--config",
        "smoke.yaml",
    ]
    command += ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.limit_val_batches=1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "WANDB_MODE": "disabled"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "logs" / "cled_stage1").is_dir()


def test_text_is_read_and_written_with_an_encoding() -> None:
    for path in (ROOT / "fusion_lightning").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            modes = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
            binary = any(re.fullmatch(r"[rwax]?\+?b\+?", mode) for mode in modes)
            descriptor = ast.unparse(call.func).startswith(("os.", "self."))
            text = name in ("read_text", "write_text") or (name == "open" and not binary and not descriptor)
            assert not text or any(one.arg == "encoding" for one in call.keywords), f"{path}:{call.lineno}"


def test_the_lowest_versions_are_the_bounds_of_setup_cfg() -> None:
    found = lowest(torch="2.13.0")
    assert found["torch"] == "2.13.0"
    needed = [line for line in _setup()["options"]["install_requires"].split("\n") if line and line[0] != "#"]
    assert {name.partition("[")[0] for name in found} >= {re.split(r"[\[>=]", line)[0] for line in needed}
    assert found["albumentations"] == "2.0.8"


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == fusion_lightning.__version__
    assert cited["license"] == _setup()["metadata"]["license"]
