"""Whatever a file holds is read, or named."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion_lightning.datamodules.synthetic.scenes import render_scene
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import SUFFIXES, WRITTEN, read_image, read_stored, shows_color, write_image


@pytest.fixture
def rgb() -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (48, 32), interpolation=cv2.INTER_LINEAR)


def _encode(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_colour_is_read_as_rgb(tmp_path: Path, rgb: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(_encode(suffix, rgb[..., ::-1]))
    np.testing.assert_array_equal(read_image(path, 3), rgb)
    with pytest.raises(UserError, match="is in colour, but a grey image is expected"):
        read_image(path, 1)


def test_an_infrared_stored_as_three_equal_channels_is_that_channel(tmp_path: Path, rgb: np.ndarray) -> None:
    grey = rgb[..., :1]
    for suffix in (".png", ".bmp"):
        path = tmp_path / f"infrared{suffix}"
        path.write_bytes(_encode(suffix, np.repeat(grey, 3, axis=2)))
        np.testing.assert_array_equal(read_image(path, 1), grey)


def test_a_dull_colour_is_one_and_a_constant_offset_or_noise_is_none() -> None:
    scene = render_scene(3, 128)
    grey = np.repeat(scene.infrared, 3, axis=2)
    noisy = grey + np.random.default_rng(0).normal(0, 4, grey.shape)
    for image in (np.add(grey, (0, -3, 0)), noisy, np.add(noisy, (0, 0, 3))):
        assert not shows_color(image.clip(0, 255).astype(np.uint8))
        assert not shows_color((image / 255).clip(0, 1).astype(np.float32))
    assert shows_color(scene.visible // 8)  # a night
    assert shows_color((0.3 * grey + (6, 0, 0)).astype(np.uint8))  # one tint over all of it


def test_a_grey_visible_is_repeated(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "visible.png"
    path.write_bytes(_encode(".png", rgb[..., 0]))
    np.testing.assert_array_equal(read_image(path, 3), np.repeat(rgb[..., :1], 3, axis=2))


def test_16_bit_keeps_its_full_range(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 32 * 48).round().reshape(32, 48).astype(np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(_encode(".png", deep))
    np.testing.assert_allclose(read_image(path, 1)[..., 0], deep / 65535, atol=1e-7)


def test_alpha_is_dropped(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "alpha.png"
    alpha = np.full((*rgb.shape[:2], 1), 7, np.uint8)
    path.write_bytes(_encode(".png", np.concatenate([rgb[..., ::-1], alpha], axis=2)))
    np.testing.assert_array_equal(read_image(path, 3), rgb)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    palette = np.array([[250, 10, 20], [0, 200, 100]], np.uint8)
    index = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in index)
    header = struct.pack(">IIBBBBB", 3, 2, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path = tmp_path / "palette.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    np.testing.assert_array_equal(read_image(path, 3), palette[index])


def test_cmyk_becomes_rgb(tmp_path: Path, rgb: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "print.jpg"
    image.fromarray(rgb).convert("CMYK").save(path, quality=98)
    assert np.abs(read_image(path, 3).astype(int) - rgb).mean() < 4


def test_an_exif_rotation_is_carried_out(tmp_path: Path, rgb: np.ndarray) -> None:
    plain = _encode(".jpg", rgb[..., ::-1])
    # orientation 6: the camera was turned, show it a quarter turn clockwise
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    path = tmp_path / "turned.jpg"
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    upright = tmp_path / "upright.jpg"
    upright.write_bytes(plain)
    np.testing.assert_array_equal(read_image(path, 3), np.rot90(read_image(upright, 3), -1))


@pytest.mark.parametrize("name", ["with space.png", "größe.png", "红外 01.png", "[brackets].png", "a'b.png"])
def test_any_name_is_read(tmp_path: Path, rgb: np.ndarray, name: str) -> None:
    (tmp_path / name).write_bytes(_encode(".png", rgb[..., ::-1]))
    np.testing.assert_array_equal(read_image(tmp_path / name, 3), rgb)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("part", [0.3, 0.97])
def test_a_cut_file_is_named(tmp_path: Path, rgb: np.ndarray, suffix: str, part: float) -> None:
    content = _encode(suffix, rgb)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError, match=f"cut{suffix}"):
        read_image(path, 3)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"empty\.png` is empty"):
        read_image(tmp_path / "empty.png", 1)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"text\.png`: it is damaged or not an image"):
        read_image(tmp_path / "text.png", 1)
    with pytest.raises(UserError, match=r"missing\.png`: No such file"):
        read_image(tmp_path / "missing.png", 1)
    with pytest.raises(UserError, match=r"cannot open the image"):
        read_image(tmp_path, 1)
    (tmp_path / "nan.tif").write_bytes(_encode(".tif", np.full((8, 8), np.nan, np.float32)))
    with pytest.raises(UserError, match=r"nan\.tif` holds 64 NaN or Inf values"):
        read_image(tmp_path / "nan.tif", 1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("suffix", [*WRITTEN, *(ending.upper() for ending in WRITTEN)])
def test_what_is_written_is_read_again_or_refused(
    tmp_path: Path, suffix: str, channels: tuple[int, ...], bits: int
) -> None:
    # smooth, so that JPEG keeps it
    ramp = np.linspace(0, 2**bits - 1, 32 * 40).reshape(32, 40, *(1 for _ in channels))
    image = np.broadcast_to(ramp, (32, 40, *channels)).astype(np.uint8 if bits == 8 else np.uint16)
    if channels == (3,):
        image = image.copy()
        image[..., 0] //= 2
    path, ending = tmp_path / f"image{suffix}", WRITTEN[suffix.lower()]
    if bits > ending.bits or (3 if channels == (3,) else 1) not in ending.channels:
        what = "16 bits" if bits > ending.bits else "colour" if channels == (3,) else "grey"
        with pytest.raises(UserError, match=f"cannot be written: {suffix} files do not hold {what}, use .png or .tif"):
            write_image(path, image)
        assert not list(tmp_path.iterdir())
        return
    write_image(path, image)
    pixels = read_stored(str(path), as_suv=False).pixels
    assert pixels.dtype == image.dtype
    found = pixels.reshape(32, 40, -1)
    tolerance = 4 if suffix.lower() in (".jpg", ".jpeg", ".jpe") else 0
    np.testing.assert_allclose(
        found.astype(int), np.broadcast_to(image.reshape(32, 40, -1), found.shape), atol=tolerance
    )


@pytest.mark.parametrize("suffix", WRITTEN)
def test_what_is_too_wide_to_be_read_again_is_not_written(tmp_path: Path, suffix: str) -> None:
    side, channels = WRITTEN[suffix].side, WRITTEN[suffix].channels[0]
    image = np.zeros((1, side + 1, channels), np.uint8)
    with pytest.raises(UserError, match=f"{suffix} files do not hold {side + 1}×1 pixels"):
        write_image(tmp_path / f"wide{suffix}", image)
    write_image(tmp_path / f"wide{suffix}", image[:, 1:])
    assert read_stored(str(tmp_path / f"wide{suffix}"), as_suv=False).pixels.shape[:2] == (1, side)


@pytest.mark.parametrize("suffix", [*sorted(SUFFIXES - set(WRITTEN)), ".txt", ""])
def test_other_endings_are_not_written(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=f"'{suffix}' is no image type, use .png or .jpg"):
        write_image(tmp_path / f"image{suffix}", np.zeros((8, 8), np.uint8))
