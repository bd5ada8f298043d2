"""`fuse` on videos and folders of frames: one window, nothing flickers, by range, rates and lengths that differ."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.commands.fuse import fuse
from fusion_lightning.commands.fuse.frames import frame_span
from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.imaging.video import Video, write_video
from fusion_lightning.main import main
from fusion_lightning.methods import CLEDStage1, DRFusion

from ..conftest import save

SCENE = render_scene(3, 96)
INFRARED, VISIBLE = SCENE.infrared[..., 0], SCENE.visible


def _still(count: int, sigma: float = 2.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames of a scene in which nothing moves, with the noise of a sensor."""
    rng = np.random.default_rng(0)
    frames: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for _ in range(count):
        for of_side, image in zip(frames, (INFRARED, VISIBLE), strict=True):
            noisy = image + rng.normal(0, sigma, image.shape)
            of_side.append(np.rint(noisy).clip(0, 255).astype(np.uint8))
    return frames


def _videos(folder: Path, a: list[np.ndarray], b: list[np.ndarray], rates: tuple[float, float] = (25, 25)) -> None:
    for name, frames, rate in (("ir.mkv", a, rates[0]), ("vi.mkv", b, rates[1])):
        folder.mkdir(exist_ok=True)
        write_video(folder / name, frames, rate, "lossless")


def _fuse(folder: Path, output: Path, **options: object) -> None:
    sources = (str(folder / "ir.mkv"), str(folder / "vi.mkv"))
    fuse(*sources, str(output), **{"device": "cpu", "method": "average", **options})  # type: ignore[arg-type]


def _frames(path: Path) -> list[np.ndarray]:
    video = Video(path)
    return [video[index].copy() for index in range(len(video.survey(False).times))]


def _flicker(frames: list[np.ndarray]) -> float:
    """Mean absolute change from frame to frame, in levels of luma."""
    luma = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) if one.ndim == 3 else one for one in frames]
    return float(np.mean([np.abs(x.astype(float) - y).mean() for x, y in pairwise(luma)]))


def test_lossless_videos_are_what_was_written(tmp_path: Path) -> None:
    counts = [np.random.default_rng(n).integers(7177, 9004, (31, 41)).astype(np.uint16) for n in range(3)]
    for name, frames in (("grey", [INFRARED] * 2), ("colour", [VISIBLE] * 2), ("deep", counts)):
        write_video(tmp_path / f"{name}.mkv", frames, 12.5, "lossless")
        video = Video(tmp_path / f"{name}.mkv")
        assert video.rate == 12.5
        for index in (1, 0, len(frames) - 1):
            height, width = frames[index].shape[:2]
            np.testing.assert_array_equal(video[index][:height, :width], frames[index])
    assert video[0].shape == (32, 42)
    assert video[0].dtype == np.uint16


@pytest.mark.parametrize("method", ["average", "maximum", "laplacian", "guided"])
def test_a_still_scene_flickers_no_more_than_its_sources(tmp_path: Path, method: str) -> None:
    a, b = _still(100 if method == "laplacian" else 10)
    _videos(tmp_path / "in", a, b)
    _fuse(tmp_path / "in", tmp_path / "out", method=method, video="lossless")
    fused = _frames(tmp_path / "out" / "ir.mkv")
    assert len(fused) == len(a)
    assert fused[0].shape == VISIBLE.shape
    assert _flicker(fused) <= max(_flicker(a), _flicker(b))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fuse.jsonl", "ir.mkv"]


def test_the_noise_of_a_sampler_stands_still(tmp_path: Path) -> None:
    method = DRFusion(size="tiny")
    torch.nn.init.normal_(method.network.noise_decoder.head.weight, std=0.05)
    checkpoint = save(method, tmp_path / "drfusion.ckpt")
    _videos(tmp_path / "in", [INFRARED] * 3, [VISIBLE] * 3)
    _fuse(tmp_path / "in", tmp_path / "out", method=checkpoint, video="lossless", restored=True)
    for video in ("ir.mkv", "restored_a/ir.mkv", "restored_b/ir.mkv", "weight/ir.mkv"):
        first, *others = _frames(tmp_path / "out" / video)
        assert len(others) == 2
        assert all((one == first).all() for one in others)
    assert not list((tmp_path / "out").rglob("*.png"))


def test_videos_that_are_only_restored_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save(CLEDStage1(size="tiny", sampling_steps=1), tmp_path / "stage1.ckpt")
    _videos(tmp_path / "in", [INFRARED] * 2, [VISIBLE] * 2)
    file = tmp_path / "out" / "restored_a" / "ir.mkv"
    for line in (f"2 frames restored into {file}", f"{file} was there already"):
        _fuse(tmp_path / "in", tmp_path / "out", method=checkpoint, video="lossless")
        assert line in capsys.readouterr().out
    assert file.is_file()


@pytest.mark.parametrize(("codec", "ending"), [("mp4v", ".mp4"), ("XVID", ".avi"), ("MJPG", ".avi")])
def test_a_grey_video_that_was_encoded_in_colour_is_grey(tmp_path: Path, codec: str, ending: str) -> None:
    for name, frame in (("ir", np.repeat(INFRARED[..., None], 3, axis=2)), ("vi", VISIBLE)):
        writer = cv2.VideoWriter(str(tmp_path / f"{name}{ending}"), cv2.VideoWriter.fourcc(*codec), 25, (96, 96))
        for _ in range(2):
            writer.write(frame[..., ::-1])
        writer.release()
    decoded = _frames(tmp_path / f"ir{ending}")[0]
    assert (decoded != decoded[..., :1]).any()
    sources = [str(tmp_path / f"{name}{ending}") for name in ("ir", "vi")]
    fuse(*sources, str(tmp_path / "out"), method="average", device="cpu", video="lossless")
    assert _frames(tmp_path / "out" / "ir.mkv")[0].shape == VISIBLE.shape


@pytest.mark.parametrize("window", ["percentile:0.5,99.5", "minmax", "agc"])
def test_a_window_is_that_of_the_whole_video(tmp_path: Path, window: str) -> None:
    # 16-bit counts of a narrow range, and one frame with something hot in it
    counts = [np.linspace(7177, 9004, 64 * 64).reshape(64, 64).round().astype(np.uint16) for _ in range(4)]
    grey = [np.zeros((64, 64), np.uint8)] * 4
    _videos(tmp_path / "in", counts, grey)
    with pytest.raises(UserError, match=r"ir\.mkv` uses 7177 to 9004 .*--window-a percentile"):
        _fuse(tmp_path / "in", tmp_path / "no", video="lossless")
    counts[2][:20, :20] = 20000
    _videos(tmp_path / "in", counts, grey)
    _fuse(tmp_path / "in", tmp_path / "out", method="maximum", window_a=window, video="lossless", bits=16)
    fused = _frames(tmp_path / "out" / "ir.mkv")
    assert fused[0].dtype == np.uint16
    np.testing.assert_array_equal(fused[0], fused[1])
    np.testing.assert_array_equal(fused[0][30:], fused[2][30:])
    if window != "agc":
        every = np.stack(counts).astype(float)
        low, high = (every.min(), every.max()) if window == "minmax" else np.percentile(every, (0.5, 99.5))
        expected = ((every - low) / (high - low)).clip(0, 1) * 65535
        assert np.abs(np.stack(fused) - expected).max() <= 1
    # the same frames as files in folders
    for index, frame in enumerate(counts):
        write_image(tmp_path / "a" / f"{index}.png", frame)
        write_image(tmp_path / "b" / f"{index}.png", grey[0])
    fuse(
        str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "f"), "maximum", window_a=window, frames="all", bits=16
    )
    for index, frame in enumerate(fused):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "f" / f"{index}.png"), cv2.IMREAD_UNCHANGED), frame)


def test_ranges_go_on_where_others_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = _still(6)
    _videos(tmp_path / "in", a, b)
    _fuse(tmp_path / "in", tmp_path / "out", method="overlay:0.5", frames="1:4", video="frames")
    assert [path.name for path in sorted((tmp_path / "out" / "ir").iterdir())] == [f"{n:06d}.png" for n in (1, 2, 3)]
    expected = (a[2][..., None].astype(float) + b[2]) / 2
    np.testing.assert_allclose(read_image(tmp_path / "out" / "ir" / "000002.png"), expected, atol=1)
    _fuse(tmp_path / "in", tmp_path / "out", method="overlay:0.5", video="frames")
    assert "(3 were there already)" in capsys.readouterr().out
    # killed on the way: its frames are there, and become a video with the others
    _fuse(tmp_path / "in", tmp_path / "out", method="overlay:0.5", video="lossless")
    assert "(6 were there already)" in capsys.readouterr().out
    whole = _frames(tmp_path / "out" / "ir.mkv")
    _fuse(tmp_path / "in", tmp_path / "out", method="overlay:0.5", video="lossless")
    assert "was there already" in capsys.readouterr().out
    _fuse(tmp_path / "in", tmp_path / "out", method="overlay:0.5", frames="4:", video="lossless")
    for one, other in zip(_frames(tmp_path / "out" / "ir-4-6.mkv"), whole[4:], strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match=r"ir\.mkv is already there: choose another --output"):
        _fuse(tmp_path / "in", tmp_path / "out", method="maximum", video="lossless")
    with pytest.raises(UserError, match="holds none of 6 frames"):
        _fuse(tmp_path / "in", tmp_path / "out", frames="9:")


def test_rates_and_lengths_that_differ_are_named(tmp_path: Path) -> None:
    levels = [np.full((64, 64), 10 * n, np.uint8) for n in range(12)]
    _videos(tmp_path / "in", levels, levels[:4], (24, 8))
    with pytest.raises(UserError, match=r"has 12 frames at 24 a second and .* 4 at 8: give --sync time"):
        _fuse(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    _fuse(tmp_path / "in", tmp_path / "out", sync="time", video="frames", method="overlay:0")
    shown = [int(read_image(path).mean()) // 10 for path in sorted((tmp_path / "out" / "ir").iterdir())]
    assert shown == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    _fuse(tmp_path / "in", tmp_path / "index", sync="index", video="frames", method="overlay:0")
    shown = [int(read_image(path).mean()) // 10 for path in sorted((tmp_path / "index" / "ir").iterdir())]
    assert shown == [0, 1, 2, 3]
    _videos(tmp_path / "short", levels, levels[:6])
    with pytest.raises(UserError, match="give --sync index to fuse what both have"):
        _fuse(tmp_path / "short", tmp_path / "out")


def test_an_mp4_is_close_and_has_the_rate(tmp_path: Path) -> None:
    a, b = _still(10, sigma=0)
    _videos(tmp_path / "in", a, b, (30000 / 1001, 30000 / 1001))
    _fuse(tmp_path / "in", tmp_path / "mp4")
    _fuse(tmp_path / "in", tmp_path / "exact", video="lossless")
    assert Video(tmp_path / "mp4" / "ir.mp4").rate == pytest.approx(30000 / 1001, rel=1e-4)
    pairs = zip(_frames(tmp_path / "mp4" / "ir.mp4"), _frames(tmp_path / "exact" / "ir.mkv"), strict=True)
    assert max(np.abs(x.astype(float) - y).mean() for x, y in pairs) < 6
    with pytest.raises(UserError, match="--video mp4 holds 8 bits: give --video frames"):
        _fuse(tmp_path / "in", tmp_path / "deep", bits=16)


def test_what_is_no_video_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = _still(3)
    _videos(tmp_path / "in", a, b)
    (tmp_path / "x.mp4").write_bytes(b"no video")
    write_image(tmp_path / "x.png", INFRARED)
    good = str(tmp_path / "in" / "ir.mkv")
    for source, words in (
        ("x.mp4", "cannot be opened"),
        ("x.png", "is no video"),
        ("no.mp4", "there is no such video"),
    ):
        line = ["fuse", "--source-a", good, "--source-b", str(tmp_path / source), "--output", str(tmp_path / "out")]
        assert main(line) == 1
        assert words in capsys.readouterr().err
    whole = (tmp_path / "in" / "ir.mkv").read_bytes()
    (tmp_path / "in" / "ir.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"ends at frame|differ|has \d+ frames?"):
        _fuse(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("span", ["3", "a:b", "5:5", "-3:", "7:2"])
def test_what_is_no_range_is_refused(span: str) -> None:
    with pytest.raises(UserError, match="--frames"):
        frame_span(span, 6)
    assert list(frame_span(":4", 6)) == [0, 1, 2, 3]
