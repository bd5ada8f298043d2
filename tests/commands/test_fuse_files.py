"""`fuse` on people's files: whole results or none, never on an input, and the same command goes on."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.commands.fuse import fuse
from fusion_lightning.commands.manifest import Manifest
from fusion_lightning.errors import UserError, notice
from fusion_lightning.files import alone_in
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.methods import CLEDStage1

from ..conftest import save


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(4):
        for folder, shape in (("ir", (40, 48)), ("vi", (40, 48, 3))):
            small = rng.integers(0, 256, (6, 6, *shape[2:]), np.uint8)
            write_image(tmp_path / "set" / folder / f"{number}.png", cv2.resize(small, shape[1::-1]))
    return tmp_path / "set"


def _fuse(pairs: Path, output: Path, **options: object) -> None:
    fuse(str(pairs / "ir"), str(pairs / "vi"), str(output), **{"device": "cpu", **options})  # type: ignore[arg-type]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_command_goes_on(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    notice.cache_clear()  # said once a process
    _fuse(pairs, whole)
    assert "no --method was named, so cled fuses" in capsys.readouterr().err
    _fuse(pairs, output)
    # killed while the third pair was being written: its line is cut, its picture is not there, a piece of it is
    journal = output / "fuse.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:50])
    for name in ("2.png", "3.png"):
        (output / name).unlink()
    (output / ".2.png.99.unfinished").write_bytes(b"half")
    untouched = (output / "0.png").stat().st_mtime_ns
    _fuse(pairs, output)
    assert "(2 were there already)" in capsys.readouterr().out
    assert (output / "0.png").stat().st_mtime_ns == untouched
    assert _files(output) == _files(whole)
    # and killed after the line, before the picture
    (output / "3.png").unlink()
    _fuse(pairs, output)
    assert _files(output) == _files(whole)


@pytest.mark.parametrize("change", ["image", "method", "window"])
def test_results_of_something_else_are_not_taken_for_these(pairs: Path, tmp_path: Path, change: str) -> None:
    _fuse(pairs, tmp_path / "out")
    options: dict[str, object] = {}
    if change == "image":
        write_image(pairs / "vi" / "1.png", np.full((40, 48), 9, np.uint8))
    else:
        options = {"method": {"method": "average"}, "window": {"window_a": "minmax"}}[change]
    before = _files(tmp_path / "out")
    with pytest.raises(UserError, match="is already there: choose another --output, or add --overwrite"):
        _fuse(pairs, tmp_path / "out", **options)
    assert _files(tmp_path / "out") == before
    _fuse(pairs, tmp_path / "out", overwrite=True, **options)
    assert _files(tmp_path / "out") != before
    line = json.loads((tmp_path / "out" / "fuse.jsonl").read_text().splitlines()[1])
    assert line["windows"] == [options.get("window_a"), None]
    assert line["files"] == ["1.png"]


def test_a_result_never_lands_on_an_input(pairs: Path, tmp_path: Path) -> None:
    before = _files(pairs)
    (tmp_path / "link").symlink_to(pairs / "ir", target_is_directory=True)
    for output in (pairs / "ir", pairs / "vi", tmp_path / "link"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="holds the input"):
                _fuse(pairs, output, overwrite=overwrite)
    _fuse(pairs, pairs, method="average", overwrite=True)  # beside the folders of the sources they overwrite none
    assert set(_files(pairs)) - set(before) == {"fuse.jsonl", *(f"{number}.png" for number in range(4))}
    assert {name: _files(pairs)[name] for name in before} == before
    for name in ("fuse.jsonl", *(f"{number}.png" for number in range(4))):
        (pairs / name).unlink()
    parts = tmp_path / "out"
    parts.mkdir()
    (pairs / "ir").rename(parts / "restored_a")
    with pytest.raises(UserError, match="holds the input"):
        fuse(str(parts / "restored_a"), str(pairs / "vi"), str(parts))
    assert {Path(name).name for name in _files(tmp_path)} == {f"{number}.png" for number in range(4)}
    assert len(before) == 8


def test_nothing_is_written_when_one_pair_cannot_be_used(pairs: Path, tmp_path: Path) -> None:
    damaged = pairs / "vi" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:90])
    with pytest.raises(UserError, match=r"2\.png` is cut short"):
        _fuse(pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_and_the_command_goes_on(pairs: Path, tmp_path: Path) -> None:
    line = ["fuse", "--source-a", str(pairs / "ir"), "--source-b", str(pairs / "vi"), "--output", str(tmp_path / "out")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    done = subprocess.run(
        [sys.executable, "-m", "fusion_lightning", *line], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot be read or written: the file would be larger" in done.stderr
    assert "a file cannot" not in done.stderr
    assert all(b"IEND" in data for name, data in _files(tmp_path / "out").items() if name.endswith(".png"))
    assert main(line) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_a_folder_is_filled_by_one_process(tmp_path: Path) -> None:
    take = "import sys; from pathlib import Path; from fusion_lightning.files import alone_in\n"
    take += "with alone_in(Path(sys.argv[1])): pass"
    with alone_in(tmp_path / "out"):
        line = [sys.executable, "-c", take, str(tmp_path / "out")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert "another process is writing into" in done.stderr
    assert not (tmp_path / "out").exists()
    with alone_in(tmp_path / "out"):
        Manifest(tmp_path / "out", {}).begin()


def test_deep_files_come_out_deep(pairs: Path, tmp_path: Path) -> None:
    counts = np.linspace(7177, 9004, 40 * 48).reshape(40, 48).round().astype(np.uint16)
    for number in range(4):
        write_image(pairs / "ir" / f"{number}.png", counts)
        write_image(pairs / "vi" / f"{number}.png", counts)
    with pytest.raises(UserError, match=r"--window-a raw:7177,9004"):
        _fuse(pairs, tmp_path / "out")
    _fuse(pairs, tmp_path / "out", window_a="raw:7177,9004", window_b="minmax", method="average", bits=16)
    expected = np.rint((counts.astype(float) - 7177) / (9004 - 7177) * 65535)
    written = cv2.imread(str(tmp_path / "out" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    assert np.abs(written - expected).max() <= 1
    places = ["--source-a", str(pairs / "ir"), "--source-b", str(pairs / "vi"), "--fused", str(tmp_path / "out")]
    assert main(["evaluate", *places, "--window-a", "minmax", "--window-b", "minmax", "--metrics", "PSNR"]) == 0


@pytest.mark.parametrize("method", ["average", "maximum", "laplacian", "guided", "wavelet", "overlay:0.3", "Maximum"])
def test_every_short_name_fuses(pairs: Path, tmp_path: Path, method: str) -> None:
    _fuse(pairs, tmp_path / "out", method=method)
    fused = read_image(tmp_path / "out" / "0.png")
    assert fused.shape == (40, 48, 3)
    if method == "overlay:0.3":
        a, b = read_image(pairs / "ir" / "0.png", 1), read_image(pairs / "vi" / "0.png", 3)
        np.testing.assert_allclose(fused, 0.3 * a.astype(float) + 0.7 * b, atol=0.51)


@pytest.mark.parametrize("method", ["overlay", "overlay:2", "ifcnn=", "nothing", "ifcnn=nowhere.pth"])
def test_what_is_no_method_is_refused(pairs: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises((UserError, OSError)):
        _fuse(pairs, tmp_path / "out", method=method)
    assert not (tmp_path / "out").exists()


def test_what_only_looks_at_images_is_refused_and_what_restores_says_so(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (
        ("estimator", "says what is wrong .* give `--degradation-a auto --estimator estimator`"),
        ("registration", "brings source a .* give `--align registration`"),
        ("ClassicalRegistration", "brings source a .* give `--align ClassicalRegistration`"),
    ):
        with pytest.raises(UserError, match=words):
            _fuse(pairs, tmp_path / "out", method=name)
    assert not (tmp_path / "out").exists()
    restorer = save(CLEDStage1(size="tiny", sampling_steps=1), tmp_path / "stage1.ckpt")
    _fuse(pairs, tmp_path / "out", method=restorer)
    assert f"4 pairs restored into {tmp_path / 'out'}" in capsys.readouterr().out
    _fuse(pairs, tmp_path / "out", method=restorer)
    assert f"4 pairs restored into {tmp_path / 'out'} (4 were there already)" in capsys.readouterr().out
    _fuse(pairs, tmp_path / "fused", method="average", restored=True)
    assert "4 pairs fused into" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 100}, "--tile must be a multiple of 64"),
        ({"balance": 0.3}, "Average has no --balance: leave it out"),
        ({"strength_a": 0.3, "strength_b": 0.3}, "Average has no --strength-a and no --strength-b: leave them out"),
        ({"strength_b": 2.0}, "`strength_b` must be between 0 .* and 1 .*, but got 2"),
        ({"noise": 14.0}, "--noise is counted in a range of 1"),
    ],
)
def test_what_no_image_can_mend_is_refused_before_any_is_read(
    pairs: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    (pairs / "vi" / "2.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=words):
        _fuse(pairs, tmp_path / "out", method="average", **options)


def test_text_is_utf_8_whatever_the_locale(pairs: Path, tmp_path: Path) -> None:
    (pairs.parent / "möbel.yaml").write_text("# Möbel ±\nmethod: average\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = ["fuse", "--config", "möbel.yaml", "--source-a", "set/ir", "--source-b", "set/vi", "--output", "~/äö"]
    environment = os.environ | ascii_only | {"HOME": str(tmp_path)}
    command = [sys.executable, "-m", "fusion_lightning", *line]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "äö").glob("*.png"))) == 4
    assert not (tmp_path / "~").exists()
