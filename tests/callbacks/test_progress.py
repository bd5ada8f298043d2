"""What a run says while it goes on and at its end."""

import io
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from rich.console import Console

from fusion_lightning.callbacks import RunProgress
from fusion_lightning.callbacks import progress as module
from fusion_lightning.main import main

from ..conftest import TINY

SHOWN = [one for one in TINY if "progress" not in one]
FIT = ["fit", "--config=ifcnn.yaml", "--config=smoke.yaml", *SHOWN, "--previews.count=0", "--model.metrics=[Qabf]"]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 120 columns would receive."""
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(module, "Console", lambda **_: terminal)
    monkeypatch.setattr(module, "_REFRESH", 0)
    monkeypatch.setattr(module, "_LINE", 0)
    return file


def test_a_run_shows_one_bar_and_says_at_its_end_what_comes_next(
    screen: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FIT, "--run_id=one", "--log_dir=somewhere else"]) == 0
    bar = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert any(re.match(r"fit .*2/2 .*loss \S+, val/Qabf \S+", line) for line in bar), bar
    assert not any("Epoch" in line or "step 1" in line for line in bar)
    *_, place, following = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"the run lies in somewhere else/ifcnn/one, best val/Qabf \d\.\d+", place)
    program, rest = following.removeprefix("next: ").split("fusion_lightning ")
    assert program == "python -m "
    assert main(shlex.split(rest)) == 0
    assert Path("somewhere else/ifcnn/one/scores.csv").is_file()


def test_a_saved_configuration_alone_repeats_the_run_as_another_of_its_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_LINE", 0)
    assert main([*FIT, "--run_id=one"]) == 0
    said = capsys.readouterr().err  # no terminal: a line now and then, and one per validation
    assert re.search(r"^step 1 of 2, loss \d\S+, \d:\d\d:\d\d left$", said, re.MULTILINE)
    assert re.search(r"step 2 of 2, val/Qabf \d", said)
    Path("logs/ifcnn/one/config.yaml").rename("kept.yaml")
    assert main(["fit", "--config=kept.yaml"]) == 0
    runs = [path for path in Path("logs").iterdir() if path.is_dir()]
    assert runs == [Path("logs/ifcnn")]
    (again,) = set(runs[0].iterdir()) - {Path("logs/ifcnn/one")}
    first, second = (yaml.safe_load(path.read_text()) for path in (Path("kept.yaml"), again / "config.yaml"))
    assert first == second


@pytest.mark.parametrize(("steps", "said"), [(300_000, "300,000 steps without an accelerator"), (1500, "")])
def test_a_full_recipe_without_an_accelerator_is_warned_of(steps: int, said: str, screen: io.StringIO) -> None:
    bar = RunProgress()
    trainer = SimpleNamespace(estimated_stepping_batches=steps, accelerator=CPUAccelerator(), global_step=0)
    bar.on_train_start(trainer, None)  # type: ignore[arg-type]
    bar.on_exception(trainer, None, KeyboardInterrupt())  # type: ignore[arg-type]
    assert said in screen.getvalue()
    assert ("small.yaml" in screen.getvalue()) == bool(said)


def test_a_bar_that_is_switched_off_prints_no_lines_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_LINE", 0)
    trainer = SimpleNamespace(estimated_stepping_batches=9, accelerator=CPUAccelerator(), global_step=1)
    for disabled in (False, True):
        bar = RunProgress()
        if disabled:
            bar.disable()
        bar.on_train_start(trainer, None)  # type: ignore[arg-type]
        bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.5)}, None, 0)  # type: ignore[arg-type]
        assert capsys.readouterr().err == ("" if disabled else "step 1 of 9, loss 0.5\n")
