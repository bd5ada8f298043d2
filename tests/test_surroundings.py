"""What a run meets on a machine: batch systems, schedules, precisions, weights and workers that go wrong."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusion_lightning.batch import FusionBatch, FusionOutput
from fusion_lightning.commands.fuse.work import fuse_batch
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.main import main
from fusion_lightning.methods import FusionMethod

from .conftest import TINY

FIT = ["fit", "--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY, "--data.crop_size=16"]


class Diverged(FusionMethod):
    """Makes no number of the last pair."""

    def fuse(self, batch: FusionBatch, controls: object = None) -> FusionOutput:
        fused = batch["source_a"].clone()
        fused[-1, 0, 3, 4] = torch.nan
        return FusionOutput(fused=fused)


def test_images_that_are_no_numbers_are_named() -> None:
    data = FusionData(length=16, scene_size=32, crop_size=None, batch_size=2, num_workers=0, scenarios=["clean"])
    data.setup("test")
    (batch,) = data.test_dataloader()
    for step in (Diverged().predict_step, Diverged().test_step):
        with pytest.raises(UserError, match=rf"`fused` of {batch['name'][1]} holds NaN or Inf"):
            step(batch, 0)
    one = FusionBatch(**{key: value[1:] for key, value in batch.items()})  # type: ignore[index, typeddict-item]
    with pytest.raises(UserError, match=rf"`fused` of {batch['name'][1]} holds NaN or Inf"):
        fuse_batch(Diverged(), one)


def test_scores_are_in_full_precision_whatever_the_networks_are_in(tmp_path: Path) -> None:
    line = ["test", "--config=average.yaml", "--config=smoke.yaml", *TINY, "--data.scenarios=[noise]"]
    tables = []
    for precision in ("32-true", "bf16-true"):
        assert main([*line, f"--trainer.precision={precision}", f"--run_id={precision}", f"--log_dir={tmp_path}"]) == 0
        tables.append((tmp_path / "average" / precision / "scores.csv").read_text())
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_a_method_trains_and_is_scored_in_half_precision(precision: str, tmp_path: Path) -> None:
    assert main([*FIT, f"--trainer.precision={precision}", "--run_id=r", f"--log_dir={tmp_path}"]) == 0
    checkpoint = tmp_path / "cled_stage1" / "r" / "checkpoints" / "last.ckpt"
    more = [f"--trainer.precision={precision}", f"--ckpt_path={checkpoint}"]
    assert main(["test", *FIT[1:], *more]) == 0
    assert main(["predict", *FIT[1:], *more]) == 0


SCHEDULER = "--model.scheduler=torch.optim.lr_scheduler"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            [f"{SCHEDULER}.OneCycleLR", "--model.scheduler.max_lr=1e-3", "--model.scheduler.total_steps=1"],
            "`total_steps` is 1",
        ),
        (["--trainer.val_check_interval=9", "--trainer.check_val_every_n_epoch=1"], "`val_check_interval` (9) must be"),
        (
            [f"{SCHEDULER}.OneCycleLR", "--model.scheduler.max_lr=1", "--model.scheduler.total_steps=-1"],
            "`scheduler` cannot be",
        ),
    ],
)
def test_what_does_not_go_together_is_said_before_the_first_step(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, *options, f"--log_dir={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert words in said.splitlines()[-1]
    assert "traceback" not in said.lower()
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_cosine_that_rises_again_and_a_shell_inside_slurm_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"JOB_ID": "7", "NTASKS": "4", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    line = [f"{SCHEDULER}.CosineAnnealingLR", "--model.scheduler.T_max=1", f"--log_dir={tmp_path}"]
    with pytest.warns(UserWarning, match="`T_max` is 1, but the run has 2 steps"):
        assert main([*FIT, *line]) == 0
    assert "begin it with `srun`" in caplog.text


def _limit() -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a small /dev/shm: no larger shared block


@pytest.mark.slow
def test_batches_that_cannot_be_handed_over_end_the_run(tmp_path: Path) -> None:
    line = [*FIT, "--data.num_workers=2", "--data.crop_size=128", "--data.scene_size=128", f"--log_dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fusion_lightning", *line], stderr=subprocess.PIPE, text=True, preexec_fn=_limit
    )
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "cannot hand over a batch: the shared memory" in said.splitlines()[-1]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


WAITING = """
import os, signal, sys, threading, time
from fusion_lightning.patience import Patience
patience = Patience([signal.SIGTERM], lambda: 0.2, lambda signum: "it does not come")
signal.signal(signal.SIGTERM, lambda signum, frame: None)
patience.begin()
print("waiting", flush=True)
lock = threading.Lock()
lock.acquire()
if sys.argv[1] == "for ever":
    while True:
        time.sleep(60)
time.sleep(0.1)
patience.end()
time.sleep(1)
sys.exit(3)
"""


@pytest.mark.parametrize(("wait", "code"), [("for ever", 128 + signal.SIGTERM), ("a moment", 3)])
def test_a_process_that_waits_for_ever_obeys_a_signal(wait: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, wait], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == ("error: it does not come\n" if wait == "for ever" else "")


def test_a_python_without_the_packages_is_told_how_to_get_them() -> None:
    root = Path(__file__).parents[1]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); "
    program += "from fusion_lightning.main import main; sys.exit(main(['fuse']))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "lacks the package" in done.stderr
    assert "make install" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_error_that_follows_control_c_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(args: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("the end of a file that was not written to its end")

    monkeypatch.setattr("fusion_lightning.main._runner", lambda command: write)
    assert main(["fuse"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted"
