"""Kill a tiny two-stage training at random moments, let it go on, and compare its weights with a run never killed.

    python benchmarks/kill_drill.py --kills 20

Half of the kills are SIGKILL, half SIGTERM. Every killed run is started again with the same command line and has to end
with both stages' weights, averaged weights and optimizer moments equal bit for bit. Processes are forked from one that
has imported everything, so that the moments spread over the training and not over its start.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from fusion_lightning.main import main as fusion_lightning

STAGES = ("cled_stage1", "cled_stage2")
TINY = """--config=smoke.yaml --trainer.max_steps={steps} --trainer.val_check_interval=4 --trainer.limit_val_batches=1
--checkpoint.every_n_train_steps=3 --model.size=tiny --data.crop_size=16 --data.scene_size=64 --data.length=10
--data.batch_size=2 --trainer.accelerator=cpu --trainer.enable_progress_bar=false --trainer.logger=false
--trainer.enable_model_summary=false --previews.count=0 --data.num_workers={workers}
--log_dir={folder} --run_id=drill --ckpt_path=last"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=13, help="of each stage; an epoch has five")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import fusion_lightning.cli  # noqa: F401 (imported once, for all processes)

    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:

        def start(run: str) -> int:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                child(Path(folder) / run, arguments.steps, arguments.workers)
            return pid

        began = time.monotonic()
        os.waitpid(start("reference"), 0)
        duration = time.monotonic() - began
        expected = list(weights(Path(folder) / "reference", arguments.steps))
        print(f"never killed: {duration:.1f} s, {2 * arguments.steps} steps, {len(expected)} tensors", flush=True)
        equal = 0
        for kill in range(arguments.kills):
            signum = (signal.SIGKILL, signal.SIGTERM)[kill % 2]
            run, moment = f"run{kill}", draw.uniform(0.02, 0.98) * duration
            pid = start(run)
            time.sleep(moment)
            os.kill(pid, signum)
            os.waitpid(pid, 0)
            left = saved_steps(Path(folder) / run)
            os.waitpid(start(run), 0)
            found = list(weights(Path(folder) / run, arguments.steps))
            same = 0 < len(found) == len(expected) and all(map(torch.equal, expected, found))
            equal += same
            print(
                f"{kill + 1:3}  {signum.name} after {moment:5.1f} s, on disk {left:24} "
                f"{'equal' if same else 'DIFFERENT'}",
                flush=True,
            )
    print(f"{equal}/{arguments.kills} ended with the weights of the run never killed")
    sys.exit(equal != arguments.kills)


def child(folder: Path, steps: int, workers: int) -> None:
    """Train both stages, or what is left of them, and end this process."""
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 0
    for stage in STAGES:
        line = [f"--config={stage}.yaml", *TINY.format(folder=folder, steps=steps, workers=workers).split()]
        if stage == STAGES[1]:
            line.append(f"--model.stage1_checkpoint={checkpoint(folder, STAGES[0])}")
        code = code or fusion_lightning(["fit", *line])
    os._exit(code)


def checkpoint(folder: Path, stage: str) -> Path:
    return folder / stage / "drill" / "checkpoints" / "last.ckpt"


def saved_steps(folder: Path) -> str:
    found = []
    for stage in STAGES:
        path = checkpoint(folder, stage)
        if path.exists():
            found.append(f"{stage} {torch.load(path, weights_only=True)['global_step']}")
    return ", ".join(found) or "nothing"


def weights(folder: Path, steps: int) -> Iterator[torch.Tensor]:
    """Every tensor that both stages ended with; none if one did not get there."""
    for stage in STAGES:
        path = checkpoint(folder, stage)
        if not path.exists():
            return
        saved = torch.load(path, weights_only=True)
        if saved["global_step"] != steps:
            return
        for part in ("state_dict", "current_model_state"):
            yield from saved[part].values()
        for moments in saved["optimizer_states"][0]["state"].values():
            yield from (moments[key] for key in sorted(moments))


if __name__ == "__main__":
    main()
