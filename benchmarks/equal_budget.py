"""Train every learned method on the same pairs for the same processor time and compare all: docs/results.md.

    python benchmarks/equal_budget.py --minutes 15 --data roadscene.yaml --root DIR --test tno=tno.yaml=DIR --output DIR
    python benchmarks/equal_budget.py --minutes 3 --data harvard_pet_mri.yaml --root DIR --medical --output DIR
    python benchmarks/equal_budget.py --minutes 10 --methods drmf text_difuse --data msrs.yaml --root DIR --output DIR

A budget is processor time of the training process, which is the same on a busy machine. It becomes a number of steps,
so that learning rates can fall to its end: by the time per step, measured just before by two runs of a few steps. Both
numbers, and what the training took, are in OUTPUT/logs/NAME/budget.json. Trainings are runs of their own in OUTPUT/logs
and are not repeated; the benchmark is in OUTPUT/benchmark and goes on where it stopped.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

FEW, MORE = 5, 85
"""Steps of the two runs whose difference is the time of a step: over fewer it is wrong by a third on a busy machine."""

Entry = dict[str, object]


@dataclass
class Training:
    """A run: its configurations, its share of the method's budget, and what else it is told."""

    name: str
    configs: list[str]
    share: float = 1.0
    options: list[str] = field(default_factory=list)


@dataclass
class Method:
    """What is trained for a method, in order, and its lines of the benchmark."""

    trainings: list[Training]
    entries: dict[str, Entry]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic.yaml", help="what is trained on: a fragment of configs/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--test", nargs="*", default=[], metavar="NAME=CONFIG=ROOT", help="what is tested beside it")
    parser.add_argument("--medical", action="store_true", help="DRFusion's medical degradations and losses")
    parser.add_argument("--minutes", type=float, default=20, help="processor time of every method's training")
    parser.add_argument("--methods", nargs="*", help="these learned methods only, beside what needs no training")
    parser.add_argument("--limit", type=int, help="test at most so many pairs of every data set")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--train-only", action="store_true", help="compare nothing")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    methods = learned_methods(arguments.output, arguments.medical)
    if unknown := set(arguments.methods or ()) - set(methods):
        parser.error(f"--methods must be among {', '.join(methods)}, but got {', '.join(sorted(unknown))}")
    chosen = {name: methods[name] for name in arguments.methods or methods}
    for method in chosen.values():
        for training in method.trainings:
            train(training, arguments)
    if not arguments.train_only:
        compare(chosen, arguments)


def degradations(medical: bool) -> dict[str, str]:
    """DRFusion's scenarios; an overlay of each name trains for it."""
    composite = "drfusion_medical_composite" if medical else "drfusion_composite"
    return {"noise": "drfusion_noise", "blur": "drfusion_blur", "composite": composite}


def learned_methods(output: Path, medical: bool) -> dict[str, Method]:
    """Every learned method by the name that ``--methods`` takes.

    Those that restore learn from DRFusion's three degradations; those that do not, from clean pairs, as published. A
    gradient as heavy as the intensity is made lighter: it sharpens noise before a short training removes it.
    """
    kind = "_medical" if medical else ""
    blind = f"drfusion{kind}_blind.yaml"
    clean = ["--data.scenarios=[clean]", "--data.quotas=null"]
    both = ["--model.reference=both"] if medical else []
    medicine = ["drfusion_medical.yaml"] if medical else []

    def last(name: str) -> str:
        return str(checkpoint(output, name))

    def single(name: str, label: str, configs: list[str], options: list[str]) -> Method:
        return Method([Training(name, configs, options=options)], {label: {"checkpoint": last(name)}})

    def stage2(name: str, share: float, *options: str) -> Training:
        first = f"--model.stage1_checkpoint={last(f'{name}_stage1')}"
        return Training(f"{name}_stage2", [f"{name}_stage2.yaml", blind], share, [first, *options])

    def cascade(name: str) -> Entry:
        arguments = {"restorer": last(name), "fuser": "LaplacianPyramid"}
        return {"class_path": "RestoreThenFuse", "init_args": arguments}

    drfusion = degradations(medical)
    return {
        "ifcnn": single("ifcnn", "IFCNN", ["ifcnn.yaml"], clean),
        "u2fusion": single("u2fusion", "U2Fusion", ["u2fusion.yaml"], clean),
        "gifnet": single("gifnet", "GIFNet", ["gifnet.yaml"], clean),
        "prior": Method(
            [Training("prior", ["prior.yaml"])],  # always on clean images
            {
                "DDFM": {"class_path": "DDFM", "init_args": {"prior": str(checkpoint(output, "prior"))}},
                "CCF": {"class_path": "CCF", "init_args": {"prior": str(checkpoint(output, "prior"))}},
                "RFfusion": {"class_path": "RFFusion", "init_args": {"prior": str(checkpoint(output, "prior"))}},
            },
        ),
        "vdmufusion": single("vdmufusion", "VDMUFusion", ["vdmufusion.yaml"], [*clean, *both]),
        "dif_fusion": Method(
            [
                Training("dif_fusion_stage1", ["dif_fusion_stage1.yaml"], 1 / 2, clean),
                stage2("dif_fusion", 1 / 2, *both, "--model.gradient=0.2"),
            ],
            {"Dif-Fusion": {"checkpoint": last("dif_fusion_stage2")}},
        ),
        "text_difuse": Method(
            [
                Training("text_difuse_stage1", ["text_difuse_stage1.yaml", "predict_clean.yaml", blind], 2 / 3),
                stage2("text_difuse", 1 / 3, *both),
            ],
            {"Text-DiFuse": {"checkpoint": last("text_difuse_stage2")}},
        ),
        "drmf": Method(
            [
                Training("drmf_stage1", ["drmf_stage1.yaml", "predict_clean.yaml", blind], 2 / 3),
                stage2("drmf", 1 / 3, *both, "--model.structure=0.2"),
            ],
            {"DRMF": {"checkpoint": last("drmf_stage2")}},
        ),
        "mask_difuser": single("mask_difuser", "Mask-DiFuser", ["mask_difuser.yaml", "predict_clean.yaml", blind], []),
        "restormer": Method(
            [Training("restormer", ["restormer.yaml", blind])], {"Restormer, then Laplacian": cascade("restormer")}
        ),
        "cled": Method(
            [
                Training("cled_stage1", ["cled_stage1.yaml", "one_step.yaml", blind], 2 / 3, ["--model.loss=l1"]),
                stage2("cled", 1 / 3),
            ],
            {
                "CLED stage 1, then Laplacian": cascade("cled_stage1"),
                "CLED-Fusion": {"checkpoint": last("cled_stage2")},
            },
        ),
        "drfusion": Method(
            [
                Training(f"drfusion_{one}", ["drfusion.yaml", *medicine, f"{name}.yaml"], 1 / 3)
                for one, name in drfusion.items()
            ],
            {
                f"DRFusion, {one}": {"checkpoint": last(f"drfusion_{one}"), "scenarios": [name]}
                for one, name in drfusion.items()
            },
        ),
    }


def train(training: Training, arguments: argparse.Namespace) -> None:
    """One run, unless it is finished."""
    record = arguments.output / "logs" / training.name / "budget.json"
    facts = json.loads(record.read_text()) if record.exists() else {}

    def fit(steps: int, logs: Path, *options: str) -> float:
        first, *overlays = training.configs
        return run(
            "fit",
            *("--config", first, "--config", "small.yaml", "--data", arguments.data),
            *([f"--data.root={arguments.root}"] if arguments.root else []),
            # after the data set, which may have scenarios of its own
            *(word for name in overlays for word in ("--config", name)),
            *training.options,
            *(f"--model.scheduler.init_args.T_max={steps}", f"--trainer.max_steps={steps}"),
            f"--precision={'bf16' if arguments.bf16 else 'fp32'}",
            *("--trainer.max_time=null", "--trainer.limit_val_batches=0", "--data.num_workers=0"),
            *(f"--log_dir={logs}", f"--experiment={training.name}", "--run_id=budget"),
            *options,
        )

    if "steps" not in facts:
        with tempfile.TemporaryDirectory() as folder:
            few, more = (fit(steps, Path(folder) / str(steps), "--trainer.logger=false") for steps in (FEW, MORE))
        seconds = (more - few) / (MORE - FEW)
        facts = {
            "seconds_per_step": round(seconds, 4),
            "steps": max(2, round(60 * arguments.minutes * training.share / seconds)),
        }
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(facts))
    if "processor_seconds" in facts:
        print(f"{training.name}: done, {facts}", flush=True)
        return
    print(f"{training.name}: {facts}", flush=True)
    taken = fit(facts["steps"], arguments.output / "logs", "--ckpt_path=last", "--trainer.log_every_n_steps=20")
    record.write_text(json.dumps({**facts, "processor_seconds": round(taken)}))


def compare(methods: dict[str, Method], arguments: argparse.Namespace) -> None:
    """The benchmark of the learned methods and of what needs no training."""
    textbook = {"restorer": "ClassicalRestorer", "fuser": "LaplacianPyramid"}
    entries: dict[str, object] = {
        "average": "Average",
        "Laplacian pyramid": "LaplacianPyramid",
        "RFfusion's rule": "RFFusion",
        "textbook filters, then Laplacian": {"class_path": "RestoreThenFuse", "init_args": textbook},
    }
    for method in methods.values():
        entries |= method.entries
    data = {
        Path(arguments.data).stem: {"config": arguments.data, **({"root": arguments.root} if arguments.root else {})}
    }
    for name, config, root in (given.split("=") for given in arguments.test):
        data[name] = {"config": config, "root": root}
    scenarios = ["clean", *degradations(arguments.medical).values()]
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "benchmark.yaml"
    file.write_text(yaml.safe_dump({"methods": entries, "data": data, "scenarios": scenarios}, sort_keys=False))
    options = [f"--output={arguments.output / 'benchmark'}", f"--precision={'bf16' if arguments.bf16 else 'fp32'}"]
    options += [f"--limit={arguments.limit}"] if arguments.limit else []
    run("benchmark", "--config", str(file), *options)


def checkpoint(output: Path, name: str) -> Path:
    return output / "logs" / name / "budget" / "checkpoints" / "last.ckpt"


def run(*words: str) -> float:
    """Run a command of the framework: the processor seconds it took."""
    environment = {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **os.environ}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "fusion_lightning", *words], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
