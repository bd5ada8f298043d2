"""Kill tiny runs at the moments that hurt, let them go on, and compare what they leave with a run never killed.

    python benchmarks/kill_drill.py --kills 40
    python benchmarks/kill_drill.py --kills 10 --command sweep

With `--command fit` it is a training; of `fuse`, `predict` and `sweep` the results are compared byte by byte.

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

from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.imaging.io import write_image
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
OFTEN = {"in the sanity check": 1, "at the end of the run": 1, "at the end of an epoch": 2}
OFTEN |= dict.fromkeys(("before a validation", "in a validation", "behind a validation"), 2)
"""How often a moment comes at least, where that is less than four times."""
MOMENTS = ["at any time", *HOOKS, "while a checkpoint is written", "behind a checkpoint"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=["fit", *COMMANDS], default="fit")
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "disabled"
    import wandb  # noqa: F401

    import fusion_lightning.cli  # noqa: F401 (all imported once, for all processes)

    if arguments.command != "fit":
        sys.exit(kill_command(arguments.command, arguments.kills, random.Random(arguments.seed)))
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        expected, duration = {}, {}
        for number, (schedule, options) in enumerate(SCHEDULES.items()):
            line = f"{TINY} {options} --data.num_workers={arguments.workers}"
            began = time.monotonic()
            code = wait(start(typed(line, root / f"reference{number}"), root / f"reference{number}"))
            duration[schedule] = time.monotonic() - began
            assert code == 0, (root / f"reference{number}" / "output.txt").read_text()
            expected[schedule] = (line, left_behind(root / f"reference{number}"))
        print(f"never killed: {sum(duration.values()):.1f} s for {len(SCHEDULES)} schedules", flush=True)
        equal = 0
        for kill in range(arguments.kills):
            schedule, signum = draw.choice(list(SCHEDULES)), draw.choice((signal.SIGKILL, signal.SIGTERM))
            moment = MOMENTS[kill % len(MOMENTS)]
            call = draw.randint(1, OFTEN.get(moment, 4))
            if moment == "in the sanity check":
                schedule = "Lightning's own: a validation per epoch"
            folder = root / f"run{kill}"
            line, wanted = expected[schedule]
            at_any_time = moment == MOMENTS[0]
            pid = start(typed(line, folder), folder, None if at_any_time else arranged(moment, call, signum))
            if at_any_time:
                time.sleep(draw.uniform(0.1, 0.95) * duration[schedule])
                os.kill(pid, signum)
            codes = [wait(pid)]
            while codes[-1] != 0 and len(codes) < 4:
                codes.append(wait(start(typed(line, folder), folder)))
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


SCORES = """
import csv, os, sys, time
options = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = os.path.join(options["log_dir"], options["experiment"], options["run_id"], "csv", "fit")
os.makedirs(folder, exist_ok=True)
for step in range(1, 5):
    time.sleep(0.1)
    with open(folder + "/metrics.csv", "w") as file:
        file.write("step,val/m\\n" + "".join(f"{n},{float(options['x']) * n}\\n" for n in range(1, step + 1)))
"""
"""What a sweep's trial runs here: scores of four steps."""


def trained(root: Path) -> Path:
    """A checkpoint of a single step."""
    line = f"fit {TINY} --trainer.max_steps=1 --trainer.limit_val_batches=0 --log_dir={root}/trained"
    assert wait(start(line.split(), root / "fit")) == 0, (root / "fit" / "output.txt").read_text()
    return root / "trained" / "cled_stage1" / "drill" / "checkpoints" / "last.ckpt"


def prepare_fuse(root: Path) -> list[str]:
    for name in range(12):
        scene = render_scene(name, 64)
        write_image(root / "a" / f"{name}.png", scene.infrared[..., 0])
        write_image(root / "b" / f"{name}.png", scene.visible)
    line = f"fuse --checkpoint={trained(root)} --source-a={root}/a --source-b={root}/b --device=cpu"
    return f"{line} --output={{folder}}/out".split()


def prepare_predict(root: Path) -> list[str]:
    checkpoint = trained(root)
    line = TINY.replace("--ckpt_path=last", f"--ckpt_path={checkpoint}").replace("--data.length=8", "--data.length=64")
    return f"predict {line} --trainer.limit_predict_batches=8 --log_dir={{folder}}".split()


def prepare_sweep(root: Path) -> list[str]:
    (root / "scores.py").write_text(SCORES)
    (root / "drill.yaml").write_text(
        "method: random\nmetric: {name: val/m, goal: maximize}\nparameters: {x: {min: 0.0, max: 1.0}}\n"
        f"command: [{sys.executable}, {root}/scores.py, '${{args}}']\n"
    )
    return f"sweep --config={root}/drill.yaml --trials=3 --log_dir={{folder}}".split()


COMMANDS = {"fuse": prepare_fuse, "predict": prepare_predict, "sweep": prepare_sweep}


def kill_command(command: str, kills: int, draw: random.Random) -> bool:
    """Kill a command at random moments; returns whether one ended otherwise than the one never killed."""
    equal = 0
    with tempfile.TemporaryDirectory() as place:
        line = COMMANDS[command](Path(place))

        def begin(run: str) -> int:
            return start([word.format(folder=f"{place}/{run}") for word in line], Path(place) / run)

        began = time.monotonic()
        assert wait(begin("reference")) == 0, (Path(place) / "reference" / "output.txt").read_text()
        duration = time.monotonic() - began
        wanted = results(Path(place) / "reference")
        for kill in range(kills):
            signum = (signal.SIGKILL, signal.SIGTERM)[kill % 2]
            pid = begin(f"run{kill}")
            time.sleep(draw.uniform(0.1, 0.9) * duration)
            os.kill(pid, signum)
            codes = [wait(pid)]
            while codes[-1] != 0 and len(codes) < 4:
                codes.append(wait(begin(f"run{kill}")))
            same_results = codes[-1] == 0 and results(Path(place) / f"run{kill}") == wanted
            equal += same_results
            print(f"{kill + 1:3}  {signum.name}: codes {codes}, {'equal' if same_results else 'DIFFERENT'}", flush=True)
    print(f"{equal}/{kills} ended as the command never killed")
    return equal != kills


def results(folder: Path) -> dict[str, object]:
    """What a command has left: its pictures, and of a sweep the points that were finished."""
    found: dict[str, object] = {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in ("predictions/**/*.*", "out/**/*.*")
        for path in folder.rglob(pattern)
        if path.is_file()
    }
    for path in folder.glob("sweeps/*/trials.csv"):
        with path.open(newline="") as file:
            found["points"] = sorted(
                (row["x"], row["val/m"]) for row in csv.DictReader(file) if row["state"] == "complete"
            )
    return found


def start(line: list[str], folder: Path, before: Callable[[], None] | None = None) -> int:
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
    os._exit(fusion_lightning(line))


def typed(line: str, folder: Path) -> list[str]:
    return ["fit", *line.split(), f"--log_dir={folder}"]


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
