"""Degraded copies of folders: what is written, that it can be repeated, resumed and read back."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.commands.degrade import degrade
from fusion_lightning.configuration import config_folder
from fusion_lightning.datamodules.pairing import find_pairs
from fusion_lightning.datamodules.pairs import FolderPairs
from fusion_lightning.degradations import reapply, scenario
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image

BACK = {"a": "ir_degraded", "b": "vi_degraded", "clean_a": "ir", "clean_b": "vi"}
NOISE = "noise(sigma=5..20)+quantize(rounding=down)"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs with the names people give to files; the infrared in grey JPEG."""
    root = tmp_path / "in put"
    rng = np.random.default_rng(0)
    for folder, suffix, channels in (("ir", ".jpg", 1), ("vi", ".png", 3)):
        (root / folder).mkdir(parents=True)
        for name in ("00001", "00002", "nächte 3"):
            _write(root / folder / f"{name}{suffix}", rng.integers(0, 256, (37, 50, channels), dtype=np.uint8))
    return root


def test_the_copy_is_read_back_and_the_manifest_repeats_it(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    degrade(str(pairs), str(output), "low_light", seed=3)
    lines = _manifest(output)
    assert [line["name"] for line in lines] == ["00001", "00002", "nächte 3"]
    for line in lines:
        assert line["scenario"] == "low_light"
        for side, channels in (("a", 1), ("b", 3)):
            clean = read_image(pairs / line[side]["clean"], channels)  # type: ignore[arg-type]
            again = reapply(clean.astype(np.float32) / 255, line[side]["effects"])
            written = read_image(output / line[side]["degraded"], channels)  # type: ignore[arg-type]
            np.testing.assert_array_equal(written, np.rint(again * 255).astype(np.uint8))
            assert (output / line[side]["clean"]).read_bytes() == (pairs / line[side]["clean"]).read_bytes()
    loaded = FolderPairs(find_pairs(str(output), BACK)[None], "b")
    assert len(loaded) == 3
    pair = loaded[0]
    assert pair.clean_b is not None
    assert pair.b.mean() < pair.clean_b.mean()


def test_names_and_seed_decide_not_the_company(pairs: Path, tmp_path: Path) -> None:
    degrade(str(pairs), str(tmp_path / "all"), NOISE)
    for folder in ("ir", "vi"):
        next(pairs.glob(f"{folder}/00001.*")).unlink()
    degrade(str(pairs), str(tmp_path / "fewer"), NOISE)
    degrade(str(pairs), str(tmp_path / "other"), NOISE, seed=1)
    name = Path("vi_degraded/00002.png")
    assert (tmp_path / "fewer" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (tmp_path / "all" / name).read_bytes()
    first, second = (line["b"]["effects"][0]["params"] for line in _manifest(tmp_path / "fewer"))
    assert first["seed"] != second["seed"]
    assert first["sigma"] != second["sigma"]


def test_an_interrupted_run_continues(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    degrade(str(pairs), str(whole), NOISE)
    degrade(str(pairs), str(output), NOISE)
    # as if the power had failed while the second line was written: files are there, the record is not
    manifest = output / "manifest.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    manifest.write_text(lines[0] + lines[1][:40], encoding="utf-8")
    (output / "vi_degraded" / "nächte 3.png").unlink()
    untouched = (output / "vi_degraded" / "00001.png").stat().st_mtime_ns
    degrade(str(pairs), str(output), NOISE)
    assert "1 were there already" in capsys.readouterr().out
    assert (output / "vi_degraded" / "00001.png").stat().st_mtime_ns == untouched
    assert _files(output) == _files(whole)
    assert manifest.read_bytes() == (whole / "manifest.jsonl").read_bytes()


def test_nothing_is_overwritten(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        degrade(str(pairs), str(output), "noise")
    assert _files(output) == {"precious.txt": b"mine"}
    used = tmp_path / "used"
    degrade(str(pairs), str(used), "noise", seed=1)
    before = _files(used)
    with pytest.raises(UserError, match="another seed"):
        degrade(str(pairs), str(used), "noise", seed=2)
    with pytest.raises(UserError, match=r'another scenario .*"a": "stripes\(sigma=4..8\)\+blur"') as error:
        degrade(str(pairs), str(used), {"a": "stripes(sigma=4..8)+blur", "b": "noise"}, seed=1)
    assert "Chain" not in str(error.value)
    assert _files(used) == before
    (used / "manifest.jsonl").unlink()
    (used / "vi_degraded" / "00001.png").write_bytes(b"drawn over")
    with pytest.raises(UserError, match="is not what this recipe writes"):
        degrade(str(pairs), str(used), "noise", seed=1)
    assert (used / "vi_degraded" / "00001.png").read_bytes() == b"drawn over"


def test_a_smaller_source_is_smaller_by_a_whole_number(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    degrade(str(pairs), str(output), "drfusion_composite")
    pair = FolderPairs(find_pairs(str(output), BACK)[None], "b")[0]
    assert pair.clean_a is not None
    assert pair.a.shape == (9, 12, 1)
    assert pair.b.shape == (36, 48, 3)
    assert pair.clean_a.shape == (36, 48, 1)
    assert pair.clean_b is not None
    np.testing.assert_array_equal(pair.clean_b, read_image(pairs / "vi" / "00001.png", 3)[:36, :48])


@pytest.mark.parametrize("layout", ["{split}/{folder}", "{folder}/{split}"])
def test_splits_keep_their_folders(tmp_path: Path, layout: str) -> None:
    image = np.full((8, 8, 1), 99, np.uint8)
    for split in ("train", "test"):
        for folder in ("Ir", "Vis"):
            _write(tmp_path / "in" / layout.format(split=split, folder=folder) / "1.png", image)
    degrade(str(tmp_path / "in"), str(tmp_path / "out"), "noise", folder_a="Ir", folder_b="Vis", color=None)
    assert (tmp_path / "out" / layout.format(split="test", folder="Vis_degraded") / "1.png").is_file()
    back = {"a": "Ir_degraded", "b": "Vis_degraded", "clean_a": "Ir", "clean_b": "Vis"}
    assert set(find_pairs(str(tmp_path / "out"), back)) == {"train", "test"}
    # the same name in two splits is two images
    effects = [line["b"]["effects"] for line in _manifest(tmp_path / "out")]
    assert effects[0] != effects[1]


def test_single_images_are_degraded_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    _write(tmp_path / "in" / "colour.png", rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    _write(tmp_path / "in" / "grey.png", rng.integers(0, 256, (9, 8, 1), dtype=np.uint8))
    degrade(str(tmp_path / "in"), str(tmp_path / "out"), "haze")
    assert "2 images, as source b" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "out" / "grey.png"), cv2.IMREAD_UNCHANGED).ndim == 2
    assert cv2.imread(str(tmp_path / "out" / "colour.png"), cv2.IMREAD_UNCHANGED).shape == (9, 8, 3)
    assert [line["b"]["effects"][0]["name"] for line in _manifest(tmp_path / "out")] == ["haze", "haze"]


def test_what_cannot_work_is_refused_before_anything_is_written(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(UserError, match="did you mean `haze`"):
        degrade(str(pairs), str(output), "hase")
    with pytest.raises(UserError, match="does not exist"):
        degrade(str(tmp_path / "nowhere"), str(output), "noise")
    with pytest.raises(UserError, match=r"00001\.png is a file: give the folder"):
        degrade(str(pairs / "vi" / "00001.png"), str(output), "noise")
    with pytest.raises(UserError, match="lies inside"):
        degrade(str(pairs), str(pairs / "out"), "noise")
    (pairs / "vi" / "alone.png").write_bytes((pairs / "vi" / "00001.png").read_bytes())
    with pytest.raises(UserError, match="alone"):
        degrade(str(pairs), str(output), "noise")
    assert not output.exists()


def test_a_damaged_image_names_itself_and_the_run_continues_after_repair(pairs: Path, tmp_path: Path) -> None:
    damaged = pairs / "vi" / "00002.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"00002\.png"):
        degrade(str(pairs), str(tmp_path / "out"), "noise")
    damaged.write_bytes(whole)
    degrade(str(pairs), str(tmp_path / "out"), "noise")
    assert len(_manifest(tmp_path / "out")) == 3


def test_every_shipped_recipe_names_a_scenario() -> None:
    recipes = sorted((config_folder() / "degrade").glob("*.yaml"))
    assert recipes
    yaml = pytest.importorskip("yaml")
    for recipe in recipes:
        scenario(yaml.safe_load(recipe.read_text())["scenario"])


def test_the_command_line_reads_a_recipe(pairs: Path, tmp_path: Path) -> None:
    from fusion_lightning.functions_cli import run_function_command

    arguments = ["--input", str(pairs), "--output", str(tmp_path / "out"), "--seed", "5"]
    run_function_command(["degrade", "--config", "degrade_night.yaml", *arguments])
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["seed"] == 5
    assert {line["scenario"] for line in _manifest(tmp_path / "out")} == {"night"}


def _manifest(folder: Path) -> list[dict[str, dict[str, list[dict[str, dict[str, int]]]]]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
