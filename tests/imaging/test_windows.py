"""Tone windows against their closed forms, and when one has to be named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from fusion_lightning.errors import UserError
from fusion_lightning.imaging.convert import to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.imaging.windows import Window

COUNTS = (7177 + np.arange(48 * 64).reshape(48, 64) % 1828).astype(np.uint16)
"""A thermal frame: counts of 14 bits that use a small part of their range."""


@pytest.fixture
def thermal(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "t.tif", COUNTS)
    return tmp_path / "t.tif"


def test_a_narrow_file_is_refused_with_the_command_to_type(thermal: Path) -> None:
    with pytest.raises(
        UserError, match=r"t\.tif` uses 7177 to 9004 .*--window-a percentile:0\.5,99\.5 or --window-a raw:7177,9004"
    ):
        read_image(thermal, 1, Window(option="--window-a"))
    np.testing.assert_allclose(read_image(thermal, 1, Window("none"))[..., 0], COUNTS / 65535, atol=1e-7)


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [
        ("raw:7200,8500", 7200, 8500),
        ("suv:7200,8500", 7200, 8500),
        ("minmax", 7177, 9004),
        ("percentile:1,98", *np.percentile(COUNTS, (1, 98))),
    ],
)
def test_a_window_is_a_line_that_is_clipped(thermal: Path, window: str, low: float, high: float) -> None:
    expected = ((COUNTS.astype(float) - low) / (high - low)).clip(0, 1)
    read = read_image(thermal, 1, Window(window))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read[..., 0], expected, atol=1e-6)
    assert len(np.unique(read)) > 1000


def test_agc_is_the_line_for_an_even_histogram_and_limits_the_slope() -> None:
    even = np.linspace(100, 900, 64 * 64).reshape(64, 64, 1)
    np.testing.assert_allclose(Window("agc").apply(even, None, "x"), (even - 100) / 800, atol=2e-3)
    # nine tenths of all pixels within a hundredth of the range: equalised they would take nine tenths of the greys
    crowded = np.concatenate([np.linspace(0, 0.01, 9000), np.linspace(0.01, 1, 1000)]).reshape(100, 100, 1)
    shown = Window("agc").apply(crowded, None, "x")
    crowd = np.ptp(shown[crowded <= 0.01])
    assert 0.1 < crowd < 0.5
    assert (np.diff(shown.ravel()) >= 0).all()


@pytest.mark.parametrize(
    "text", ["wide", "raw", "raw:3", "raw:5,2", "percentile:-1,50", "minmax:1,2", "raw:a,b", "suv:0,nan"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--window"):
        Window(text)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits_are_counts_of_their_own_range(tmp_path: Path, bits: int) -> None:
    counts = np.random.default_rng(0).integers(0, 2**bits, (9, 16))
    digits = (counts[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    raw = np.packbits(digits.astype(np.uint8).reshape(9, -1), axis=1).tobytes()
    _write_tiff(tmp_path / "p.tif", raw, 9, 16, bits)
    np.testing.assert_allclose(read_image(tmp_path / "p.tif", 1)[..., 0], counts / (2**bits - 1), atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_is_read_as_it_is(tmp_path: Path, dtype: str) -> None:
    values = np.linspace(0, 1, 12 * 16).reshape(12, 16).astype(dtype)
    tifffile.imwrite(tmp_path / "f.tif", values)
    np.testing.assert_allclose(read_image(tmp_path / "f.tif", 1)[..., 0], values, atol=1e-7)
    tifffile.imwrite(tmp_path / "c.tif", (20 + 15 * values.astype(np.float32)))
    with pytest.raises(UserError, match="holds values from 20 to 35: name its tone window"):
        read_image(tmp_path / "c.tif", 1)
    np.testing.assert_allclose(read_image(tmp_path / "c.tif", 1, Window("raw:20,35"))[..., 0], values, atol=1e-3)


def test_signed_counts_need_a_window_and_keep_their_sign(tmp_path: Path) -> None:
    units = np.arange(-1024, 1024, 2, np.int16).reshape(32, 32)
    tifffile.imwrite(tmp_path / "ct.tif", units)
    with pytest.raises(UserError, match=r"from -1024 to 1022: name its tone window.*raw:-1024,1022"):
        read_image(tmp_path / "ct.tif", 1)
    expected = ((units.astype(float) + 160) / 400).clip(0, 1)
    np.testing.assert_allclose(read_image(tmp_path / "ct.tif", 1, Window("raw:-160,240"))[..., 0], expected, atol=1e-6)


def test_pages_are_named_and_thumbnails_are_none(tmp_path: Path) -> None:
    page = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([page, 255 - page]), photometric="minisblack")
    with pytest.raises(UserError, match=r"stack\.tif` holds 2 pages"):
        read_image(tmp_path / "stack.tif", 1)
    with tifffile.TiffWriter(tmp_path / "thumb.tif") as file:
        file.write(page)
        file.write(page[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "thumb.tif", 1)[..., 0], page)


@pytest.mark.parametrize("suffix", [".jfif", ".gif", ".jp2", ".avif"])
def test_more_types_are_read(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 255, 64 * 80).reshape(64, 80).astype(np.uint8)
    data = cv2.imencode(".jpg" if suffix == ".jfif" else suffix, np.repeat(grey[..., None], 3, axis=2))[1]
    (tmp_path / f"x{suffix}").write_bytes(data.tobytes())
    read = read_image(tmp_path / f"x{suffix}", 3).mean(axis=2)
    assert np.abs(read - grey).mean() < (40 if suffix == ".gif" else 6)  # the encoder has 256 colours for all


def test_noise_in_three_channels_is_grey_and_a_palette_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.integers(0, 256, (192, 256), np.uint8), (0, 0), 6)
    grey = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)
    noisy = np.clip(grey[..., None] + rng.normal(0, 14, (192, 256, 3)), 0, 255).astype(np.uint8)
    write_image(tmp_path / "noisy.png", noisy)
    assert read_image(tmp_path / "noisy.png", 1).shape == (192, 256, 1)
    for palette in (cv2.COLORMAP_JET, cv2.COLORMAP_HOT, cv2.COLORMAP_INFERNO):
        write_image(tmp_path / "palette.png", cv2.applyColorMap(grey, palette))
        with pytest.raises(UserError, match="is in colour, but a grey image is expected"):
            read_image(tmp_path / "palette.png", 1)


def test_16_bits_go_out_as_they_came_in(tmp_path: Path) -> None:
    counts = np.linspace(0, 65535, 40 * 50).round().astype(np.uint16).reshape(40, 50)
    write_image(tmp_path / "deep.png", counts)
    read = read_image(tmp_path / "deep.png", 1)
    np.testing.assert_array_equal(to_image(to_tensor(read), 16), counts)


def _write_tiff(path: Path, raw: bytes, height: int, width: int, bits: int) -> None:
    """A TIFF of one packed strip, which no library here writes."""
    import struct

    fields = [(256, width), (257, height), (258, bits), (259, 1), (262, 1), (273, 134), (277, 1), (278, height)]
    fields += [(279, len(raw)), (339, 1)]
    directory = struct.pack("<H", 10) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + raw)
