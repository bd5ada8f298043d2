"""Kill tiny trainings at the moments that hurt, let them go on, and compare what they leave with a run never killed.

    python benchmarks/kill_drill.py --kills 40

A kill is SIGKILL or SIGTERM, at a moment drawn for it: at any time, in the sanity check, in or around a validation,
while a checkpoint is written or just moved to its place, at the end of an epoch, or at the end of the run. Epochs and
validations vary: a validation ends an epoch, lies within one, or cuts across; the run ends by steps or by epochs. Every
killed run is started again with the same command line until it ends with code 0, and has to end with the weights, the
averaged weights, the optimizer moments and the best checkpoint of the run never killed, bit for bit, with every
validation logged, and with no process and no unfinished file left. Processes are forked from one that has imported
everything.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path

import torch

from fusion_lightning.main import main as fusion_lightning

TINY = """--config=cled_stage1.yaml --config=smoke.yaml --trainer.limit_val_batches=2 --checkpoint.every_n_train_steps=3
--model.size=tiny --data.crop_size=16 --data.scene_size=64 --data.length=8 --data.batch_size=2
--trainer.accelerator=cpu --trainer.enable_progress_bar=false --trainer.enable_model_summary=false --previews.count=0
--run_id=drill --ckpt_path=last"""
"""An epoch has four steps."""

SCHEDULES = {
    "a validation ends every epoch": "--trainer.max_steps=8 --trainer.val_check_interval=4",
    "Lightning's own: a validation per epoch": "--trainer.max_steps=8 --trainer.val_check_interval=1.0 "
    "--trainer.check_val_every_n_epoch=1 --trainer.num_sanity_val_steps=1",
    "validations cut across epochs": "--trainer.max_steps=10 --trainer.val_check_interval=3",
    "by epochs, two validations in each": "--trainer.max_steps=-1 --trainer.max_epochs=2 "
    "--trainer.val_check_interval=0.5 --trainer.check_val_every_n_epoch=1",
}

HOOKS = {
    "in the sanity check": "on_sanity_check_start",
    "before a validation": "on_validation_start",
    "in a validation": "on_validation_batch_end",
    "behind a validation": "on_validation_end",
    "behind a step": "on_train_batch_end",
    "at the end of an epoch": "on_train_epoch_end",
    "at the end of the run": "on_train_end",
}
MOMENTS = ["at any time", *HOOKS, "while a checkpoint is written", "behind a checkpoint"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "disabled"
    import wandb  # noqa: F401

    import fusion_lightning.cli  # noqa: F401 (all imported once, for all processes)

    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        expected, duration = {}, {}
        for number, (schedule, options) in enumerate(SCHEDULES.items()):
            line = f"{TINY} {options} --data.num_workers={arguments.workers}"
            began = time.monotonic()
            code = wait(start(line, root / f"reference{number}"))
            duration[schedule] = time.monotonic() - began
            assert code == 0, (root / f"reference{number}" / "output.txt").read_text()
            expected[schedule] = (line, left_behind(root / f"reference{number}"))
        print(f"never killed: {sum(duration.values()):.1f} s for {len(SCHEDULES)} schedules", flush=True)
        equal = 0
        for kill in range(arguments.kills):
            schedule, signum = draw.choice(list(SCHEDULES)), draw.choice((signal.SIGKILL, signal.SIGTERM))
            moment, call = MOMENTS[kill % len(MOMENTS)], draw.randint(1, 4)
            folder = root / f"run{kill}"
            line, wanted = expected[schedule]
            at_any_time = moment == MOMENTS[0]
            pid = start(line, folder, None if at_any_time else arranged(moment, call, signum))
            if at_any_time:
                time.sleep(draw.uniform(0.1, 0.95) * duration[schedule])
                os.kill(pid, signum)
            codes = [wait(pid)]
            while codes[-1] != 0 and len(codes) < 4:
                codes.append(wait(start(line, folder)))
            found = left_behind(folder) if codes[-1] == 0 else {}
            wrong = [name for name in wanted if not same(found.get(name), wanted[name])]
            equal += not wrong
            print(
                f"{kill + 1:3}  {signum.name} {moment} ({call}), {schedule}: codes {codes}, "
                f"{'equal' if not wrong else 'DIFFERENT: ' + ', '.join(wrong)}",
                flush=True,
            )
    print(f"{equal}/{arguments.kills} ended as the run never killed")
    sys.exit(equal != arguments.kills)


def start(line: str, folder: Path, before: Callable[[], None] | None = None) -> int:
    """Begin or go on with a run in a process of its own; `before` arranges its death."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if before is not None:
        before()
    os._exit(fusion_lightning(["fit", *line.split(), f"--log_dir={folder}"]))


def wait(pid: int, seconds: float = 300) -> int | str:
    """The exit code, and whether a process of the run was left."""
    end = time.monotonic() + seconds
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "it hung"
        time.sleep(0.01)
    for _ in range(100):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.1)
    os.killpg(pid, signal.SIGKILL)
    return "a process was left"


def arranged(moment: str, call: int, signum: int) -> Callable[[], None]:
    """Send this process a signal at the n-th time that a moment comes."""
    from fusion_lightning import checkpoints
    from fusion_lightning.callbacks import SignalCheckpoint

    def before() -> None:
        calls = [0]

        def counted() -> None:
            calls[0] += 1
            if calls[0] == call:
                os.kill(os.getpid(), signum)

        if moment in HOOKS:
            hook = getattr(SignalCheckpoint, HOOKS[moment])

            @wraps(hook)
            def killed(*given, **more):
                counted()
                return hook(*given, **more)

            setattr(SignalCheckpoint, HOOKS[moment], killed)
        else:
            replace = checkpoints.os.replace

            def moved(source, target):
                if moment == "while a checkpoint is written":
                    counted()
                replace(source, target)
                if moment == "behind a checkpoint":
                    counted()

            checkpoints.os = type(sys)("os")
            checkpoints.os.__dict__.update(os.__dict__, replace=moved)

    return before


def left_behind(folder: Path) -> dict[str, object]:
    """What a run has left, by name."""
    run = folder / "cled_stage1" / "drill"
    found: dict[str, object] = {"files": sorted(path.name for path in (run / "checkpoints").iterdir())}
    for name in ("last", "best"):
        saved = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        found[f"{name}: step"] = saved["global_step"]
        for part in ("state_dict", "current_model_state"):
            found[f"{name}: {part}"] = list(saved[part].values())
        moments = saved["optimizer_states"][0]["state"].values()
        found[f"{name}: moments"] = [one[key] for one in moments for key in sorted(one)]
    found["best score"] = [state["best_model_score"] for key, state in saved["callbacks"].items() if "PSNR" in key]
    found["scores"] = dict(sorted(validations(run)))
    return found


def validations(run: Path) -> Iterator[tuple[str, str]]:
    """The step and the score of every validation that was logged."""
    for path in run.glob("csv/*/metrics.csv"):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("val/PSNR_restored"):
                    yield row["step"], row["val/PSNR_restored"]


def same(one: object, other: object) -> bool:
    """Equality, of tensors bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


if __name__ == "__main__":
    main()
