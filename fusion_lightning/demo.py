"""The demo: train, test and fuse through the command line, as a user would type it."""

import csv
import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.contact_sheet import contact_sheet
from fusion_lightning.imaging.convert import to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.zoo import BEST

_SHOWN = ("MI", "VIF", "Qabf", "Nabf", "SSIM")
_PAIRS = 4


def demo(output: str = "logs/demo", seed: int = 0) -> None:
    """Train CLED-Fusion's two stages on built-in scenes, test, fuse, and show a table and a contact sheet.

    The model that ships stands beside the one that was just trained.

    Args:
        output: Folder for everything the demo makes; what an earlier demo left there stays.
        seed: Seed of the scenes and of training.

    Raises:
        UserError: If a step fails.
    """
    console = Console()
    folder = Path(output)
    run_id = f"seed{seed}-{sum(1 for _ in folder.glob('demo_stage1/*'))}"
    common = f"--config demo.yaml --log_dir {shlex.quote(output)} --seed_everything {seed} --data.seed {seed}"
    stage1 = folder / "demo_stage1" / run_id / "checkpoints" / "last.ckpt"
    stage2 = folder / "demo_stage2" / run_id / "checkpoints" / "last.ckpt"

    def run(step: str, command: str) -> None:
        console.rule(f"[bold]{step}")
        console.print(f"python -m fusion_lightning {command}\n", style="dim", soft_wrap=True, highlight=False)
        if main(shlex.split(command)) != 0:
            raise UserError(f"the demo stopped at `{step}`: its error is above")

    run(
        "1 · learn to restore",
        f"fit --config cled_stage1.yaml {common} --config one_step.yaml --model.branch_init 0.1 "
        f"--experiment demo_stage1 --run_id {run_id}",
    )
    run(
        "2 · learn to fuse",
        f"fit --config cled_stage2.yaml {common} --experiment demo_stage2 --run_id {run_id} "
        f"--model.stage1_checkpoint {shlex.quote(str(stage1))}",
    )
    run("3 · test", f"test --config cled_stage2.yaml {common} --ckpt_path {shlex.quote(str(stage2))}")
    run(
        "3 · test the model that ships",
        f"test --config cled_stage2.yaml {common} --experiment demo_{BEST} --run_id {run_id} --ckpt_path {BEST} "
        "--trainer.logger false",
    )
    for rule in ("average", "maximum"):
        run(
            f"3 · test the {rule} of the sources",
            f"test --config {rule}.yaml {common} --experiment demo_{rule} --run_id {run_id} --trainer.logger false",
        )
    pairs = folder / "pairs" / run_id
    _write_pairs(pairs, seed)
    fused, shipped = folder / "fused" / run_id, folder / f"fused_{BEST}" / run_id
    for checkpoint, target in ((str(stage2), fused), (BEST, shipped)):
        run(
            "4 · fuse images on disk",
            f"fuse --method {shlex.quote(checkpoint)} --source-a {shlex.quote(str(pairs / 'a'))} "
            f"--source-b {shlex.quote(str(pairs / 'b'))} --output {shlex.quote(str(target))} --restored",
        )
    console.rule("[bold]what came out")
    console.print(_table({name: folder / f"demo_{name}" / run_id for name in ("stage2", BEST, "average", "maximum")}))
    console.print("contact sheet:", _draw(pairs, fused, shipped), soft_wrap=True, highlight=False)


def _write_pairs(folder: Path, seed: int) -> None:
    """Some noisy pairs as files, as a user has them."""
    data = FusionData(scenarios=["noise"], batch_size=1, num_workers=0, seed=seed)
    data.setup("test")
    for index, batch in zip(range(_PAIRS), data.test_dataloader(), strict=False):
        name = f"scene{index}.png"
        write_image(folder / "a" / name, to_image(batch["source_a"][0]))
        write_image(folder / "b" / name, to_image(batch["source_b"][0]))


def _table(runs: dict[str, Path]) -> Table:
    """The mean row of every run's score table; the best of each column in bold."""
    names = {
        "stage2": "CLED-Fusion, just trained",
        BEST: f"{BEST}, as it ships",
        "average": "average",
        "maximum": "maximum",
    }
    rows = {}
    for name, path in runs.items():
        with (path / "scores.csv").open(newline="", encoding="utf-8") as file:
            mean = list(csv.DictReader(file))[-1]
        rows[names[name]] = [float(mean[metric]) for metric in _SHOWN]
    table = Table("method", *(f"{metric} {'↓' if metric == 'Nabf' else '↑'}" for metric in _SHOWN))
    for name, values in rows.items():
        best = [
            (min if metric == "Nabf" else max)(row[column] for row in rows.values())
            for column, metric in enumerate(_SHOWN)
        ]
        cells = (f"[bold]{v:.3f}[/]" if v == b else f"{v:.3f}" for v, b in zip(values, best, strict=True))
        table.add_row(name, *cells)
    table.caption = "noisy test scenes, scored against the clean sources"
    return table


def _draw(pairs: Path, fused: Path, shipped: Path) -> Path:
    places = (pairs / "a", pairs / "b", fused / "restored_a", fused / "restored_b", fused, shipped)
    rows = [
        [to_tensor(read_image(place / path.name, channels=3)) for place in places]
        for path in sorted((pairs / "a").glob("*.png"))
    ]
    labels = ["degraded a", "degraded b", "restored a", "restored b", "fused", f"fused by {BEST}"]
    sheet = fused.with_name(f"{fused.name}_contact_sheet.png")  # not among the images, which `evaluate` can then score
    write_image(sheet, contact_sheet(rows, labels, 256))
    return sheet
