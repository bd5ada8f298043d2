"""Train every learned method on the same pairs for the same time and compare all: the tables of docs/results.md.

    python benchmarks/equal_budget.py --minutes 15 --data roadscene.yaml --root DIR --test tno=tno.yaml=DIR --output DIR
    python benchmarks/equal_budget.py --minutes 3 --data harvard_pet_mri.yaml --root DIR --medical --output DIR

A budget is a number of steps, so that learning rates can fall to its end: as many as take that time on one core that
multiplies bfloat16, by the seconds per step below. Elsewhere all of it takes longer or shorter, methods alike.
Trainings are runs of their own in OUTPUT/logs and are not repeated; the benchmark is in OUTPUT/benchmark and goes on
where it stopped.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

SECONDS = {"ifcnn": 0.11, "u2fusion": 0.43, "vdmufusion": 0.18, "restormer": 0.31, "cled": 0.6, "drfusion": 0.38}
"""Per step of four pairs of 64 × 64 pixels, tiny networks, bfloat16."""


@dataclass
class Training:
    """A run: its configurations, its share of the method's budget, and what else it is told."""

    name: str
    seconds: float
    configs: list[str]
    share: float = 1.0
    options: list[str] = field(default_factory=list)

    def steps(self, minutes: float) -> int:
        """How many steps its share of so many minutes is."""
        return max(2, round(60 * minutes * self.share / self.seconds))


def degradations(medical: bool) -> dict[str, str]:
    """DRFusion's scenarios; an overlay of each name trains for it."""
    composite = "drfusion_medical_composite" if medical else "drfusion_composite"
    return {"noise": "drfusion_noise", "blur": "drfusion_blur", "composite": composite}


def trainings(output: Path, medical: bool) -> list[Training]:
    """In the order of dependence: stage 2 of CLED-Fusion needs stage 1."""
    kind = "_medical" if medical else ""
    blind = f"drfusion{kind}_blind.yaml"
    clean = ["--data.scenarios=[clean]", "--data.quotas=null"]
    both = ["--model.reference=both"] if medical else []
    stage1 = ["cled_stage1.yaml", "one_step.yaml", blind]
    restores = [f"--model.stage1_checkpoint={checkpoint(output, 'cled_stage1')}"]
    return [
        Training("ifcnn", SECONDS["ifcnn"], ["ifcnn.yaml"], options=clean),
        Training("u2fusion", SECONDS["u2fusion"], ["u2fusion.yaml"], options=clean),
        Training("vdmufusion", SECONDS["vdmufusion"], ["vdmufusion.yaml"], options=[*clean, *both]),
        Training("restormer", SECONDS["restormer"], ["restormer.yaml", blind]),
        Training("cled_stage1", SECONDS["cled"], stage1, 2 / 3, ["--model.loss=l1"]),
        Training("cled_stage2", SECONDS["cled"], ["cled_stage2.yaml", blind], 1 / 3, restores),
        *(
            Training(f"drfusion_{one}", SECONDS["drfusion"], [f"drfusion{kind}.yaml", f"{name}.yaml"], 1 / 3)
            for one, name in degradations(medical).items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic.yaml", help="what is trained on: a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--test", nargs="*", default=[], metavar="NAME=CONFIG=ROOT", help="what is tested beside it")
    parser.add_argument("--medical", action="store_true", help="DRFusion's medical degradations and losses")
    parser.add_argument("--minutes", type=float, default=20, help="of every method's training")
    parser.add_argument("--only", nargs="*", help="train these runs only, and compare nothing")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    for training in trainings(arguments.output, arguments.medical):
        if arguments.only is None or training.name in arguments.only:
            train(training, arguments)
    if arguments.only is None:
        compare(arguments)


def train(training: Training, arguments: argparse.Namespace) -> None:
    """One run, unless it is finished."""
    steps = training.steps(arguments.minutes)
    last = checkpoint(arguments.output, training.name)
    done = last.with_name("finished")
    if done.exists():
        print(f"{training.name}: done", flush=True)
        return
    print(f"{training.name}: {steps} steps", flush=True)
    options = [*training.options, f"--model.scheduler.init_args.T_max={steps}"]
    options += ["--trainer.precision=bf16-mixed"] if arguments.bf16 else []
    first, *overlays = training.configs
    run(
        "fit",
        *("--config", first, "--config", "small.yaml", "--data", arguments.data),
        *([f"--data.root={arguments.root}"] if arguments.root else []),
        # after the data set, which may have scenarios of its own
        *(word for name in overlays for word in ("--config", name)),
        *options,
        *(f"--log_dir={arguments.output / 'logs'}", f"--experiment={training.name}", "--run_id=budget"),
        *("--ckpt_path=last", f"--trainer.max_steps={steps}", "--trainer.max_time=null", "--data.num_workers=0"),
        *(f"--trainer.val_check_interval={steps}", "--trainer.log_every_n_steps=20"),
    )
    done.touch()


def compare(arguments: argparse.Namespace) -> None:
    """The benchmark of all of them and of what needs no training."""

    def learned(name: str, **where: list[str]) -> dict[str, object]:
        return {"checkpoint": str(checkpoint(arguments.output, name)), **where}

    def cascade(restorer: str) -> dict[str, object]:
        return {
            "class_path": "RestoreThenFuse",
            "init_args": {"restorer": restorer, "fuser": "LaplacianPyramid"},
        }

    scenarios = degradations(arguments.medical)
    methods = {
        "average": "Average",
        "Laplacian pyramid": "LaplacianPyramid",
        "IFCNN": learned("ifcnn"),
        "U2Fusion": learned("u2fusion"),
        "VDMUFusion": learned("vdmufusion"),
        "textbook filters, then Laplacian": cascade("ClassicalRestorer"),
        "Restormer, then Laplacian": cascade(str(checkpoint(arguments.output, "restormer"))),
        "CLED stage 1, then Laplacian": cascade(str(checkpoint(arguments.output, "cled_stage1"))),
        "CLED-Fusion": learned("cled_stage2"),
        **{f"DRFusion, {one}": learned(f"drfusion_{one}", scenarios=[name]) for one, name in scenarios.items()},
    }
    data = {
        Path(arguments.data).stem: {"config": arguments.data, **({"root": arguments.root} if arguments.root else {})}
    }
    for name, config, root in (given.split("=") for given in arguments.test):
        data[name] = {"config": config, "root": root}
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "benchmark.yaml"
    file.write_text(
        yaml.safe_dump({"methods": methods, "data": data, "scenarios": ["clean", *scenarios.values()]}, sort_keys=False)
    )
    options = [f"--output={arguments.output / 'benchmark'}", f"--bf16={str(arguments.bf16).lower()}"]
    run("benchmark", "--config", str(file), *options)


def checkpoint(output: Path, name: str) -> Path:
    return output / "logs" / name / "budget" / "checkpoints" / "last.ckpt"


def run(*words: str) -> None:
    environment = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **os.environ}
    subprocess.run([sys.executable, "-m", "fusion_lightning", *words], check=True, env=environment)


if __name__ == "__main__":
    main()
