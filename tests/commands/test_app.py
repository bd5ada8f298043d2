"""The page in the browser, without a browser: what it computes, and what the command says."""

import re
import socket
import struct
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.commands.app.fusion import EXAMPLES, SCORES, Choices, draw_example, fuse_files, open_tools
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.methods import CLEDStage2, DRFusion
from fusion_lightning.zoo import BEST
from tests.conftest import save
from tests.imaging.test_registration import _scene

TOOLS = open_tools([], "ClassicalEstimator", "classical", "cpu")


@pytest.fixture
def street(tmp_path: Path) -> tuple[str, str]:
    """A drawn pair of small pictures."""
    a, b = draw_example("street", 0, tmp_path)
    for path in (a, b):
        write_image(path, read_image(path)[100:164, 100:196])
    return str(a), str(b)


@pytest.mark.parametrize("options", [[], ["--window-a=minmax", "--resize=b", "--colormap-a=hot"]])
def test_the_page_writes_what_fuse_writes(options: list[str], tmp_path: Path) -> None:
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    counts = np.random.default_rng(0).integers(0, 65536, (40, 48, 1)).astype(np.uint16)
    write_image(a, counts)
    write_image(b, (counts[::-1, ::-1] >> 8).astype(np.uint8))
    command = ["fuse", f"--source-a={a}", f"--source-b={b}", f"--output={tmp_path}/out", "--method=wavelet", *options]
    assert main(command) == 0
    chosen = {"windows": ("minmax", ""), "resize": "b", "colormap_a": "hot"} if options else {}
    result = fuse_files(Choices(str(a), str(b), "wavelet", **chosen), TOOLS, tmp_path)  # type: ignore[arg-type]
    assert result.file.read_bytes() == (tmp_path / "out" / "a.png").read_bytes()
    assert not result.scores  # too small
    assert result.against == "the sources"


@pytest.mark.parametrize(("kind", "method"), zip(EXAMPLES, (BEST, "laplacian"), strict=True))
def test_examples_are_drawn_anew_and_fused(kind: str, method: str, tmp_path: Path) -> None:
    pairs = [draw_example(kind, number, tmp_path) for number in (0, 1, 0)]  # type: ignore[arg-type]
    assert pairs[0] == pairs[2] != pairs[1]
    a, b = map(str, pairs[1])
    assert fuse_files(Choices(a, b, method), TOOLS, tmp_path).fused.shape == (320, 320, 3)


def test_a_degraded_pair_is_scored_against_the_clean_one(street: tuple[str, str], tmp_path: Path) -> None:
    clean, dark = (
        fuse_files(Choices(*street, "average", severities={"b": {"low_light": level}}), TOOLS, tmp_path)
        for level in (0, 4)
    )
    assert dark.against == "the clean sources"
    assert dark.sources["b"].mean() < 0.5 * clean.sources["b"].mean()
    np.testing.assert_array_equal(dark.sources["a"], clean.sources["a"])
    assert set(clean.scores) == set(SCORES)
    assert dark.scores["SSIM"] < clean.scores["SSIM"]


def test_strengths_steps_and_restored_sources_of_a_method_that_has_them(
    street: tuple[str, str], tmp_path: Path
) -> None:
    name = save(CLEDStage2(size="tiny", restorer={"size": "tiny", "sampling_steps": 1}), tmp_path / "cled.ckpt")
    tools = open_tools([name], "ClassicalEstimator", "classical", "cpu")
    assert next(iter(tools.methods)) == BEST
    kept = Choices(*street, name, controls={"strength_a": 0, "strength_b": 0}, severities={"b": {"noise": 3}})
    result = fuse_files(kept, tools, tmp_path)
    restored = dict(result.parts)
    np.testing.assert_array_equal(restored["b, restored"], result.sources["b"])
    assert result.scores["PSNR_b"] == pytest.approx(result.scores["PSNR_b_in"], abs=0.1)
    assert result.steps is None
    removed = fuse_files(Choices(*street, name, severities={"b": {"noise": 3}}, steps=True), tools, tmp_path)
    assert (dict(removed.parts)["b, restored"] != removed.sources["b"]).any()
    assert removed.steps is not None
    assert removed.steps.shape[1] > 1000
    # hidden knobs, which a rule does not have, are passed over
    fuse_files(Choices(*street, "guided", controls={"strength_a": 0, "balance": 1}, steps=True), tools, tmp_path)


def test_16_bits_are_those_that_fuse_writes(street: tuple[str, str], tmp_path: Path) -> None:
    a, b = street
    line = ["fuse", f"--source-a={a}", f"--source-b={b}", f"--output={tmp_path}/out", "--method=guided", "--bits=16"]
    assert main(line) == 0
    deep = fuse_files(Choices(a, b, "guided", bits=16), TOOLS, tmp_path)
    assert deep.file.read_bytes() == (tmp_path / "out" / Path(a).name).read_bytes()
    assert deep.fused.dtype == np.uint8
    plain = fuse_files(Choices(a, b, "guided"), TOOLS, tmp_path)
    assert np.abs(deep.fused.astype(int) - plain.fused).max() <= 1
    assert deep.scores["SSIM"] == pytest.approx(plain.scores["SSIM"], abs=1e-3)


def test_source_a_is_aligned_or_the_page_says_why_not(tmp_path: Path) -> None:
    b = _scene(0)
    a = cv2.warpAffine(1 - b, np.array([[1.0, 0, 6], [0, 1, -4]]), (200, 160), borderMode=cv2.BORDER_REPLICATE)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(files, (a, b), strict=True):
        write_image(path, np.rint(255 * image).astype(np.uint8))
    choices = Choices(*map(str, files), "average", align=True)
    result = fuse_files(choices, TOOLS, tmp_path)
    assert result.remarks == ["source a moved by 7.2 pixels on average"]  # √(6² + 4²)
    moved, still = (image.astype(int)[20:-20, 20:-20] for image in (result.sources["a"], result.sources["b"]))
    assert np.abs(moved - (255 - still)).mean() < 3
    flat = tmp_path / "flat.png"
    write_image(flat, np.full((160, 200), 99, np.uint8))
    (remark,) = fuse_files(replace(choices, a=str(flat)), TOOLS, tmp_path).remarks
    assert remark.startswith("source a is not aligned: ")


def test_what_went_wrong_is_found_out_for_methods_that_undo_it(street: tuple[str, str], tmp_path: Path) -> None:
    name = save(DRFusion(size="tiny"), tmp_path / "drfusion.ckpt")
    tools = open_tools([name], "ClassicalEstimator", "classical", "cpu")
    choices = Choices(*street, name, severities={"b": {"noise": 4}}, auto=("a", "b"))
    (remark,) = fuse_files(choices, tools, tmp_path).remarks
    assert re.search(r"source b .*noise\(sigma=\d+", remark)
    assert fuse_files(replace(choices, method="average"), tools, tmp_path).remarks == []  # a hidden knob
    with pytest.raises(UserError, match="leaves nothing that could be undone"):
        fuse_files(replace(choices, align=True), tools, tmp_path)


def test_what_cannot_be_fused_is_said_in_a_sentence(street: tuple[str, str], tmp_path: Path) -> None:
    a, b = street
    (tmp_path / "cut.png").write_bytes(Path(a).read_bytes()[:500])
    write_image(tmp_path / "faint.png", np.arange(7000, 7064, dtype=np.uint16)[None].repeat(64, 0))
    header, data = struct.pack(">2I5B", 60000, 60000, 8, 0, 0, 0, 0), zlib.compress(bytes(9))
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True))))
    write_image(tmp_path / "large.pgm", np.zeros((2880, 2881), np.uint8))
    for one, other, words in (
        (None, None, "choose two images first"),
        (a, None, "choose source b first"),
        (str(tmp_path / "cut.png"), b, "`cut.png` is cut short"),
        (str(tmp_path / "faint.png"), b, "for example window a percentile:0.5,99.5"),
        (b, b, "are both in colour"),
        (str(tmp_path / "huge.png"), b, "`huge.png` has more than 8.3 million pixels"),
        (str(tmp_path / "large.pgm"), b, "`large.pgm` has more than 8.3 million pixels"),
        (a, str(tmp_path / "none.png"), "none.png"),
    ):
        with pytest.raises(UserError) as found:
            fuse_files(Choices(one, other, BEST), TOOLS, tmp_path)
        assert words in str(found.value)
        assert str(tmp_path) not in str(found.value)
    with pytest.raises(UserError, match="`method` must be one of"):
        fuse_files(Choices(a, b, f"{tmp_path}/evil.ckpt"), TOOLS, tmp_path)


def test_a_format_that_shows_no_size_beforehand_is_measured_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.hdr").write_bytes(cv2.imencode(".hdr", np.zeros((40, 40, 3), np.float32))[1].tobytes())
    write_image(tmp_path / "a.png", np.zeros((20, 20), np.uint8))
    monkeypatch.setattr("fusion_lightning.commands.app.fusion.LARGEST", 1599)
    with pytest.raises(UserError, match=r"^`b\.hdr` has more than"):
        fuse_files(Choices(str(tmp_path / "a.png"), str(tmp_path / "b.hdr"), BEST), TOOLS, tmp_path)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_the_command_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, words in (
            ([f"--port={port}"], f"--port {port} cannot be used (address already in use): give another one"),
            (["--port=70000"], "--port must be a number from 1 to 65535, but got 70000"),
        ):
            assert main(["app", *arguments]) == 1
            assert capsys.readouterr().err == f"error: {words}\n"
    assert main(["app", f"--port={port}"]) == 1
    assert capsys.readouterr().err == "error: the page needs Gradio: pip install 'fusion_lightning[app]'\n"
