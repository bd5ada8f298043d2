import csv
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.commands.evaluate import evaluate
from fusion_lightning.commands.statistics import bootstrap_interval, comparison, differences, summary
from fusion_lightning.commands.tables import Cell, Table, latex, markdown
from fusion_lightning.errors import UserError
from fusion_lightning.metrics import METRICS, fusion_metrics
from tests.metrics.conftest import golden_rows, read


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def folders(tmp_path) -> Path:
    """Two sources and two methods of three pairs: grey, colour, mixed extensions; `good` is closer to the sources."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:64, 0:72]
    for i, (suffix_a, suffix_b, suffix_f) in enumerate([("png", "bmp", "png"), ("tif", "png", "bmp"), ("png",) * 3]):
        a = 120 + 60 * np.sin(x / (4 + i)) + rng.normal(0, 5, x.shape)
        b = 120 + 60 * np.cos(y / (5 + i)) + rng.normal(0, 5, x.shape)
        a, b, good, bad = (
            np.clip(image, 0, 255).astype(np.uint8)
            for image in (a, b, (a + b) / 2, (a + b) / 4 + 60 + rng.normal(0, 30, x.shape))
        )
        write(tmp_path / f"a/{i}.{suffix_a}", a)
        write(tmp_path / f"b/{i}.{suffix_b}", np.stack([b, b, np.roll(b, 1)], axis=2))
        write(tmp_path / f"good/{i}.{suffix_f}", good)
        write(tmp_path / f"bad/{i}.png", bad)
    return tmp_path


def run(folders: Path, *fused: str, **options) -> None:
    evaluate(str(folders / "a"), str(folders / "b"), [str(folders / name) for name in fused], **options)


def table_of(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_one_row_per_image_and_a_mean(folders, capsys):
    output = folders / "new/scores.csv"
    run(folders, "good", metrics="MI, Qabf", output=str(output))
    header, *rows, mean = table_of(output)
    assert header == ["name", "MI", "Qabf"]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert mean[0] == "mean"
    assert float(mean[1]) == pytest.approx(np.mean([float(row[1]) for row in rows]))
    images = [read(folders / path) for path in ("good/0.png", "a/0.png", "b/0.bmp")]
    assert float(rows[0][2]) == pytest.approx(METRICS["Qabf"]().per_image(*images).item(), rel=1e-12)
    printed = capsys.readouterr().out
    assert "MI ↑" in printed
    assert f"{float(mean[1]):.4f} ±" in printed
    assert [path.name for path in output.parent.iterdir()] == ["scores.csv"]


def test_the_default_is_the_five_of_cled(folders):
    run(folders, "good", output=str(folders / "scores.csv"))
    assert table_of(folders / "scores.csv")[0] == ["name", "MI", "VIF", "Qabf", "Nabf", "SSIM"]


@pytest.mark.parametrize("metrics", ["Q_G,SF", ["Q_G", "SF"], ["Q_G,SF"]])
def test_metrics_are_a_list_or_text(folders, metrics):
    run(folders, "good", metrics=metrics, output=str(folders / "scores.csv"))
    assert table_of(folders / "scores.csv")[0] == ["name", "Q_G", "SF"]


def test_single_images_are_scored_too(folders):
    out = folders / "scores.csv"
    evaluate(str(folders / "a/0.png"), str(folders / "b/1.png"), [str(folders / "good/2.png")], "MI", str(out))
    assert [row[0] for row in table_of(out)] == ["name", "0", "mean"]


def test_several_methods_are_compared(folders, capsys):
    run(folders, "bad", "good", metrics="VIF,Nabf", output=str(folders / "scores.csv"), format="markdown")
    printed = capsys.readouterr().out
    means, gaps = printed.split("difference to the best")
    good = next(line for line in means.splitlines() if line.startswith("| good"))
    bad = next(line for line in means.splitlines() if line.startswith("| bad"))
    assert good.count("**") == 4
    assert bad.count("<u>") == 2
    assert re.search(r"\| bad \| -\d.* \[-\d.*, -\d.*\] \|", gaps)
    for method in ("bad", "good"):
        assert table_of(folders / f"scores-{method}.csv")[0] == ["name", "VIF", "Nabf"]


@pytest.mark.parametrize("format", ["table", "markdown", "latex"])
def test_every_format_is_printed(folders, capsys, format):
    run(folders, "bad", "good", metrics="MI,Nabf,Q_SF", format=format)
    printed = capsys.readouterr().out
    assert {"table": "━", "markdown": "| --- |", "latex": r"\toprule"}[format] in printed
    assert "Q_SF" in printed or r"Q\_SF" in printed


def test_everything_wrong_is_named_and_nothing_written(folders):
    (folders / "good/1.bmp").rename(folders / "good/other.bmp")
    (folders / "b/0.bmp").write_bytes(b"no image")
    write(folders / "a/2.png", np.zeros((20, 12), np.uint8))
    with pytest.raises(UserError, match=r"`1`, which is in --source-a .* but not in --fused .*good; `other`, which is"):
        run(folders, "good", "bad", output=str(folders / "scores.csv"))
    (folders / "good/other.bmp").rename(folders / "good/1.bmp")
    with pytest.raises(UserError, match=r"2 of 3 pairs cannot be used, one because: "):
        run(folders, "good", "bad", output=str(folders / "scores.csv"))
    (folders / "b/0.bmp").unlink()
    write(folders / "b/0.bmp", np.zeros((64, 72, 3), np.uint8))
    with pytest.raises(UserError, match=r"a/2\.png` has 12×20 pixels and .* has 72×64"):
        run(folders, "good", "bad", output=str(folders / "scores.csv"))
    assert not list(folders.glob("*.csv"))


def test_an_output_is_not_overwritten_unless_asked(folders):
    output = folders / "scores.csv"
    output.write_text("precious")
    with pytest.raises(UserError, match="already exists"):
        run(folders, "good", metrics="MI", output=str(output))
    assert output.read_text() == "precious"
    run(folders, "good", metrics="MI", output=str(output), overwrite=True)
    assert output.read_text().startswith("name,MI")


def test_what_cannot_be_done_is_said(folders):
    with pytest.raises(UserError, match=r"`--metrics`: there is no metric 'SSSIM'; did you mean `SSIM`"):
        run(folders, "good", metrics="MI,SSSIM")
    with pytest.raises(UserError, match=r"--output .* is a folder"):
        run(folders, "good", output=str(folders))
    with pytest.raises(UserError, match=r"--fused .*nowhere"):
        run(folders, "nowhere")
    with pytest.raises(UserError, match="same folder twice"):
        run(folders, "good", "good")
    with pytest.raises(UserError, match="0: MS_SSIM needs images of at least 176x176 pixels, but got 64x72"):
        run(folders, "good", metrics="MS_SSIM", output=str(folders / "scores.csv"))
    assert not list(folders.glob("*.csv"))


def test_all_leaves_out_what_the_images_are_too_small_for(folders, capsys):
    run(folders, "good", "bad", metrics="all", output=str(folders / "scores.csv"))
    printed = capsys.readouterr().out
    assert "MS_SSIM is left out of `all`: it needs images of at least 176x176 pixels" in printed
    assert printed.count("is left out of `all`") == 1
    (header, *_), left = table_of(folders / "scores-bad.csv"), set(METRICS) - {"MS_SSIM"}
    assert set(header) == {"name", *left}


def test_undefined_values_are_named_and_left_out(folders, capsys):
    write(folders / "good/2.png", np.full((64, 72), 128, np.uint8))
    run(folders, "good", "bad", metrics="CC", output=str(folders / "scores.csv"))
    assert "CC is undefined (NaN) for 2: left out of the mean" in capsys.readouterr().out
    *rows, mean = table_of(folders / "scores-good.csv")[1:]
    assert rows[2][1] == "nan"
    assert float(mean[1]) == pytest.approx((float(rows[0][1]) + float(rows[1][1])) / 2)


def test_methods_are_judged_on_the_same_images():
    first = {"CC": np.array([0.2, 0.4, np.nan])}
    second = {"CC": np.array([0.1, 0.5, 9.0])}
    means = [row[1] for row in comparison({"first": first, "second": second}).rows]
    assert [cell.text.split()[0] for cell in means] == ["0.3000", "0.3000"]
    assert [cell.rank for cell in means] == [1, 1]


def test_one_image_has_neither_spread_nor_interval():
    scores = {"first": {"MI": np.array([0.2, np.nan])}, "second": {"MI": np.array([0.5, 0.1])}}
    assert [row[1].text for row in comparison(scores).rows] == ["0.2000 ± –", "0.5000 ± –"]
    assert [row[1].text for row in differences(scores).rows] == ["-0.3 [–]", "best"]
    assert summary(scores["first"], 2).rows[0][1].text == "0.2000 ± –"


@pytest.mark.parametrize(("metric", "best"), [("MI", 2), ("Nabf", 0), ("Q_SF", 1)])
def test_the_best_depends_on_the_direction(metric, best):
    values = (-0.9, 0.1, 0.5) if metric == "Q_SF" else (0.1, 0.3, 0.5)
    scores = {f"m{i}": {metric: np.full(4, value)} for i, value in enumerate(values)}
    assert [row[1].rank for row in comparison(scores).rows].index(1) == best
    assert differences(scores).rows[best][1].text == "best"


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.normal(0.3, 1, 40)) for _ in range(100)]
    assert 87 <= sum(low < 0.3 < high for low, high in intervals) <= 100


def test_latex_is_escaped():
    text = latex(Table("t", ["method", "Q_MI ↑"], [[Cell("U2_Fusion"), Cell("0.5 ± 0.1", 1)]]))
    assert r"Q\_MI $\uparrow$" in text
    assert r"U2\_Fusion & \textbf{0.5 $\pm$ 0.1} \\" in text
    assert "| m\\|x |" in markdown(Table("t", ["m"], [[Cell("m|x")]]))


def test_the_command_line_takes_several_folders(folders):
    command = [sys.executable, "-m", "fusion_lightning", "evaluate", "--source-a", "a", "--source-b", "b"]
    command += ["--fused", "good", "bad", "--metrics", "MI,Qabf", "--format", "latex"]
    done = subprocess.run(command, cwd=folders, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("% mean")


@pytest.mark.slow
def test_the_published_results_get_the_golden_means(shared, tmp_path):
    methods = ("IFCNN", "SeAFusion", "U2Fusion")
    sources = [str(shared / f"data/TNO/{name}") for name in ("ir", "vi")]
    fused = [str(shared / f"published/TNO/{method}") for method in methods]
    evaluate(*sources, fused, "EN,VIF,Qabf,Nabf,SF,SD,AG,CC,SCD,MSE,Q_MI,Q_G,Q_M", str(tmp_path / "scores.csv"))
    golden = golden_rows(shared / "golden", "tno_*.csv", "method", "image")
    for method in methods:
        header, *_, mean = table_of(tmp_path / f"scores-{method}.csv")
        for name, value in zip(header[1:], mean[1:], strict=True):
            expected = np.mean([float(row[name]) for (of, _), row in golden.items() if of == method])
            assert float(value) == pytest.approx(expected, rel=1e-8), (method, name)


def test_the_collection_agrees_with_the_table(folders):
    run(folders, "good", metrics="MI,SSIM", output=str(folders / "scores.csv"))
    collection = fusion_metrics(["MI", "SSIM"], prefix="")
    for i, files in enumerate([("0.png", "0.png", "0.bmp"), ("1.bmp", "1.tif", "1.png"), ("2.png",) * 3]):
        folder_names = zip(("good", "a", "b"), files, strict=True)
        collection.update(*(read(folders / folder / file) for folder, file in folder_names))
        assert i < 3
    mean = table_of(folders / "scores.csv")[-1]
    assert [float(value) for value in mean[1:]] == pytest.approx([v.item() for v in collection.compute().values()])
