"""The benchmark, through the command line, on tiny drawn scenes."""

import csv
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from fusion_lightning.batch import FusionBatch
from fusion_lightning.commands.benchmark.measure import measure
from fusion_lightning.commands.statistics import wins
from fusion_lightning.datamodules import FusionData
from fusion_lightning.imaging.io import write_image
from fusion_lightning.main import main
from fusion_lightning.methods import Average, DenseFuse, FusionMethod, FusionOutput, Maximum
from fusion_lightning.metrics import METRICS

ROWS = ["street_00000", "street_00001"]


class Breaks(FusionMethod):
    """Fails at the second pair."""

    def fuse(self, batch: FusionBatch, controls: object = None) -> FusionOutput:
        if batch["name"][0] == ROWS[1]:
            raise RuntimeError("out of\n luck")
        return FusionOutput(fused=batch["source_a"])


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Two rules, a cascade and a method that breaks, on two pairs, clean and noisy."""
    content = {
        "methods": {
            "average": "Average",
            "maximum": {"class_path": "Maximum", "scenarios": ["clean"]},
            "restored average": {"class_path": "RestoreThenFuse", "init_args": {"fuser": "Average"}},
            "broken": "Breaks",
        },
        "data": {"street": {"config": "synthetic.yaml", "length": 16, "scene_size": 64}},
        "scenarios": ["clean", "drfusion_noise"],
        "metrics": "MI,Qabf",
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(recipe: Path, output: Path, *more: str) -> int:
    return main(["benchmark", "--config", str(recipe), "--output", str(output), *more])


def pairs(scenario: str) -> FusionData:
    """The pairs of the recipe."""
    data = FusionData(length=16, scene_size=64, scenarios=[scenario], batch_size=1, num_workers=0, crop_size=None)
    data.setup("test")
    return data


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_metrics_and_everything_is_written(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run(recipe, output) == 1  # a row is missing, and the others are there
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("error: 2 of 7 trials failed, the first one broken on street, clean")
    printed = said.out
    assert "broken failed on street, clean: RuntimeError: out of luck" in printed
    rows = rows_of(output)
    assert [(row["scenario"], row["method"]) for row in rows if row["name"] == ROWS[0]] == [
        ("clean", "average"),
        ("drfusion_noise", "average"),
        ("clean", "maximum"),
        ("clean", "restored average"),
        ("drfusion_noise", "restored average"),
    ]
    data = FusionData(
        length=16, scene_size=64, scenarios=["drfusion_noise"], batch_size=1, num_workers=0, crop_size=None
    )
    data.setup("test")
    noisy = [row for row in rows if row["scenario"] == "drfusion_noise" and row["method"] == "average"]
    for row, batch in zip(noisy, data.test_dataloader(), strict=True):
        fused = Average()(batch)["fused"]
        for name in ("MI", "Qabf"):
            expected = METRICS[name]().per_image(fused, batch["clean_a"], batch["clean_b"]).item()
            assert float(row[name]) == pytest.approx(expected, rel=1e-6)
    report = (output / "report.md").read_text()
    assert "| broken | failed | – |" in report
    assert "street, drfusion_noise: restored sources" in report
    assert "images on which a method is the best" in report
    assert "\\begin{tabular}" in (output / "report.tex").read_text()
    for scenario in ("clean", "drfusion_noise"):
        assert cv2.imread(str(output / "sheets" / f"{scenario}.png")).shape[1] > 5 * 224
    assert (output / "quality_time.png").is_file()


def test_what_is_finished_is_not_measured_again_and_changes_are_noticed(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    run(recipe, output)
    trials = sorted((output / "trials").rglob("*.json"))
    stamps = {path: path.stat().st_mtime_ns for path in trials}
    run(recipe, output)
    # what failed is tried again
    assert {path.name for path in trials if path.stat().st_mtime_ns != stamps[path]} == {"broken.json"}
    trials[0].write_text(trials[0].read_text()[:50])  # as if the disk had been pulled
    capsys.readouterr()
    run(recipe, output, "--seed", "1")
    assert "data changed, measured anew" in capsys.readouterr().out
    assert all(json.loads(path.read_text())["recipe"]["data"]["seed"] == 1 for path in trials)


def test_published_images_are_a_row(recipe: Path, tmp_path: Path) -> None:
    data = pairs("clean")
    (tmp_path / "theirs").mkdir()
    for batch in data.test_dataloader():
        image = Maximum().fuse(batch)["fused"][0].permute(1, 2, 0).numpy()[..., ::-1]
        cv2.imwrite(str(tmp_path / "theirs" / f"{batch['name'][0]}.png"), np.rint(image * 255))
    content = yaml.safe_load(recipe.read_text())
    content["methods"] = {"maximum": "Maximum", "theirs": {"folder": str(tmp_path / "theirs")}}
    recipe.write_text(yaml.safe_dump(content))
    assert run(recipe, tmp_path / "out") == 0
    scores = {
        (row["method"], row["name"]): float(row["Qabf"])
        for row in rows_of(tmp_path / "out")
        if row["scenario"] == "clean"
    }
    assert scores["theirs", ROWS[0]] == pytest.approx(scores["maximum", ROWS[0]], abs=5e-3)  # they are 8-bit
    (tmp_path / "theirs" / f"{ROWS[1]}.png").unlink()
    run(recipe, tmp_path / "out")
    failure = json.loads((tmp_path / "out" / "trials" / "street" / "clean" / "theirs.json").read_text())["failure"]
    assert failure == f"{tmp_path / 'theirs'} has no image called {ROWS[1]}"


def test_pairs_as_delivered_are_a_scenario_of_their_own(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["methods"] = {"average": "Average"}
    content["data"]["street"]["scenarios"] = []
    recipe.write_text(yaml.safe_dump(content))
    assert run(recipe, tmp_path / "out") == 0
    assert {row["scenario"] for row in rows_of(tmp_path / "out")} == {"delivered"}


def test_costs_are_counted() -> None:
    class OneConvolution(FusionMethod):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 1, 3, padding=1)

        def fuse(self, batch: FusionBatch, controls: object = None) -> FusionOutput:
            return FusionOutput(fused=self.convolution(batch["source_a"]).clamp(0, 1))

    data = pairs("clean")
    metrics = {"MI": METRICS["MI"]()}
    results, cost = measure(
        OneConvolution(), data.test_dataloader(), metrics, torch.device("cpu"), False, lambda *_: None
    )
    assert [result["name"] for result in results] == ROWS
    assert cost is not None
    assert (cost["parameters"], cost["flops"], cost["size"]) == (10, 2 * 9 * 64 * 64, [64, 64])
    assert all(result["seconds"] > 0 for result in results)


def test_wins_count_ties_for_all() -> None:
    table = wins({"x": {"MI": np.array([1.0, 2.0, 3.0])}, "y": {"MI": np.array([1.0, 1.0, 4.0])}})
    assert [row[1] for row in table.rows] == [("2", 1), ("2", 1)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--metrics", "SSSIM"], "`--metrics`: there is no metric 'SSSIM'; did you mean `SSIM`"),
        (["--methods.laplacian", "LaplacianPyramdi"], "method 'laplacian': there is no method 'LaplacianPyramdi'"),
        (["--methods.trained", "nowhere.ckpt"], "method 'trained': there is no checkpoint nowhere.ckpt"),
        (
            ["--data.street", '{"config": "synthetic.yaml", "lenth": 3}'],
            "no option 'lenth'; did you mean `length`",
        ),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--scenarios", "nose"], "did you mean `noise`"),
        (["--data.street", "nowhere.yaml"], "there is no such file"),
        (["--data.street", '{"config": "roadscene.yaml", "root": "nowhere"}'], "`nowhere`"),
        (["--methods.other", '{"checkpoints": "x"}'], "checkpoints"),
        (["--methods.AVERAGE", "Average"], "names that differ"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    recipe: Path, tmp_path: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe, tmp_path / "out", *more) in (1, 2)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert run(recipe, tmp_path / "out") == 1
    assert "not from an earlier benchmark" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "methods"),
    [("benchmark.yaml", {"average", "laplacian", "restored laplacian"}), ("published.yaml", {"average", "laplacian"})],
)
def test_a_shipped_configuration_runs(name: str, methods: set[str], tmp_path: Path) -> None:
    arguments = ["benchmark", "--config", name, "--output", str(tmp_path / "out"), "--limit", "1"]
    arguments += ["--weights_folder", str(tmp_path)]
    assert main([*arguments, "--scenarios", "clean", "--metrics", "MI"]) == 0
    assert {row["method"] for row in rows_of(tmp_path / "out")} >= methods


def test_methods_whose_weights_are_not_there_are_left_out(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(DenseFuse().network.state_dict(), tmp_path / "DenseFuse.pth")
    content = yaml.safe_load(recipe.read_text())
    content["methods"] = {
        name: {"class_path": name, "init_args": {"weights": f"{name}.pth"}} for name in ("DenseFuse", "SDNet")
    }
    for name in ("DenseFuse", "SDNet"):
        parts = {"restorer": "ClassicalRestorer", "fuser": content["methods"][name]}
        content["methods"][f"restored {name}"] = {"class_path": "RestoreThenFuse", "init_args": parts}
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    assert run(recipe, tmp_path / "out", "--weights_folder", str(tmp_path), "--scenarios=[clean]") == 0
    printed = capsys.readouterr().out
    assert "left out" in printed
    for name in ("SDNet", "restored SDNet"):
        assert f"{name} is left out: there is no {tmp_path / 'SDNet.pth'}" in printed.splitlines()
    assert {row["method"] for row in rows_of(tmp_path / "out")} == {"DenseFuse", "restored DenseFuse"}


def test_a_list_may_be_written_out(tmp_path: Path) -> None:
    options = ["--methods={average: Average}", "--data={street: {config: synthetic.yaml, length: 16, scene_size: 64}}"]
    options += ["--scenarios=[clean,drfusion_noise]", "--metrics=Qabf", "--limit=1", f"--output={tmp_path / 'out'}"]
    assert main(["benchmark", *options]) == 0
    rows = (tmp_path / "out" / "scores.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["clean", "drfusion_noise"]


def test_images_that_changed_are_measured_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "xy":
        for part, seed in (("ir", 1), ("vi", 2)):
            levels = np.random.default_rng((seed, ord(name))).integers(0, 256, (32, 32, 1), np.uint8)
            write_image(tmp_path / "set" / part / f"{name}.png", levels)
    data = {"config": "paired.yaml", "root": str(tmp_path / "set"), "split": "test"}
    data |= {"folders": {"a": "ir", "b": "vi"}, "color": None}
    recipe = tmp_path / "recipe.yaml"
    content = {"methods": {"average": "Average"}, "data": {"mine": data}, "scenarios": ["clean"], "metrics": "MI"}
    recipe.write_text(yaml.safe_dump(content))
    assert run(recipe, tmp_path / "out") == 0
    before = rows_of(tmp_path / "out")
    path = tmp_path / "set" / "vi" / "x.png"
    stamp = path.stat()
    write_image(path, np.random.default_rng(9).integers(0, 256, (32, 32, 1), np.uint8))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert run(recipe, tmp_path / "out") == 0
    assert "images changed, measured anew" in capsys.readouterr().out
    after = rows_of(tmp_path / "out")
    assert after[0]["MI"] != before[0]["MI"]
    assert after[1]["MI"] == before[1]["MI"]


def test_pairs_that_are_held_back_are_said_and_one_pair_has_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        for part in ("ir", "vi"):
            levels = np.random.default_rng((number, len(part))).integers(0, 256, (32, 32, 1), np.uint8)
            write_image(tmp_path / "set" / part / f"{number}.png", levels)
    data = {"config": "paired.yaml", "root": str(tmp_path / "set"), "color": None}
    content = {"methods": {"average": "Average", "maximum": "Maximum"}, "scenarios": ["clean", "drfusion_noise"]}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(content | {"data": {"mine": data}, "metrics": "MI"}))
    assert run(recipe, tmp_path / "out") == 0
    said = "note: .*set has no folders of splits: 1 of its 4 pairs .* `split: test` tests all of them"
    assert len(re.findall(said, capsys.readouterr().err)) == 1
    report = (tmp_path / "out" / "report.md").read_text()
    assert re.search(r"mine, clean \(1 pair\): mean", report)
    assert len(re.findall(r"\d ± – ?\*?", report)) == 4
    assert len(re.findall(r"\d \[–\]", report)) == 2
    recipe.write_text(yaml.safe_dump(content | {"data": {"mine": data | {"split": "test"}}, "metrics": "MI"}))
    assert run(recipe, tmp_path / "all") == 0
    assert "has no folders" not in capsys.readouterr().err
    assert len(rows_of(tmp_path / "all")) == 16


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"class_path": "Maximum", "data": ["steet"]}, "names 'steet', but there are street"),
        ({"class_path": "Maximum", "scenarios": ["claen"]}, "did you mean `clean`"),
    ],
)
def test_a_method_never_vanishes(
    entry: dict[str, object], words: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["methods"]["theirs"] = entry
    recipe.write_text(yaml.safe_dump(content))
    assert run(recipe, tmp_path / "out") == 1
    assert words in capsys.readouterr().err


def test_a_method_of_ones_own_module_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_methods_for_a_benchmark.py").write_text(
        "from fusion_lightning.methods import FusionMethod\n"
        "class Mine(FusionMethod):\n"
        "    def fuse(self, batch, controls=None):\n"
        "        return {'fused': batch['source_a']}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    content = {"methods": {"mine": "my_methods_for_a_benchmark.Mine"}, "scenarios": ["clean"], "metrics": "MI"}
    content["data"] = {"street": {"config": "synthetic.yaml", "length": 8, "scene_size": 32}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    assert run(tmp_path / "mine.yaml", tmp_path / "out") == 0
