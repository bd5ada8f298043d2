"""Files of every kind through `fuse`, `degrade`, `evaluate` and the data module, against the window's closed form."""

import csv
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from fusion_lightning.commands.degrade import degrade
from fusion_lightning.commands.evaluate import evaluate
from fusion_lightning.commands.fuse import fuse
from fusion_lightning.datamodules import FusionData
from fusion_lightning.imaging.io import read_image, write_image
from tests.dicom import write_dicom

SIZE = (32, 40)
RAMP = np.linspace(0, 1, SIZE[0] * SIZE[1]).reshape(SIZE)


def _narrow(folder: Path) -> tuple[np.ndarray, str]:
    counts = np.rint(7177 + 1827 * RAMP).astype(np.uint16)
    write_image(folder / "x.png", counts)
    return (counts - 7177.0) / 1827, "raw:7177,9004"


def _float(folder: Path) -> tuple[np.ndarray, str]:
    degrees = (60 * RAMP - 20).astype(np.float32)
    tifffile.imwrite(folder / "x.tif", degrees)
    return ((degrees.astype(float) + 10) / 40).clip(0, 1), "raw:-10,30"


def _dicom(folder: Path) -> tuple[np.ndarray, str]:
    counts = np.rint(4095 * RAMP).astype(np.uint16)
    write_dicom(folder / "x.dcm", counts, RescaleSlope=2, RescaleIntercept=-1024)
    return ((counts * 2.0 - 1024 + 160) / 400).clip(0, 1), "raw:-160,240"


def _percentiles(folder: Path) -> tuple[np.ndarray, str]:
    counts = np.rint(3000 * RAMP**2).astype(np.uint16)
    tifffile.imwrite(folder / "x.tiff", counts)
    low, high = np.percentile(counts, (2, 97))
    return ((counts - low) / (high - low)).clip(0, 1), "percentile:2,97"


def _grey_palette(folder: Path) -> tuple[np.ndarray, str]:
    """A PNG whose pixels are numbers of 16 greys."""
    index = (RAMP * 15).astype(np.uint8)
    rows = np.pad(index, [(0, 0), (1, 0)]).tobytes()
    greys = np.repeat(np.arange(16, dtype=np.uint8) * 17, 3).tobytes()
    header = struct.pack(">IIBBBBB", *SIZE[::-1], 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", greys), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return index * 17 / 255.0, "none"


@pytest.mark.parametrize("make", [_narrow, _float, _dicom, _percentiles, _grey_palette])
def test_every_command_sees_the_same_values(make: Callable[[Path], tuple[np.ndarray, str]], tmp_path: Path) -> None:
    (tmp_path / "set" / "ir").mkdir(parents=True)
    expected, window = make(tmp_path / "set" / "ir")
    write_image(tmp_path / "set" / "vi" / "x.png", np.zeros(SIZE, np.uint8))
    places = (str(tmp_path / "set" / "ir"), str(tmp_path / "set" / "vi"))

    fuse(*places, str(tmp_path / "fused"), "overlay:1", window_a=window, bits=16, device="cpu")
    fused = cv2.imread(str(tmp_path / "fused" / "x.png"), cv2.IMREAD_UNCHANGED)
    assert np.abs(fused - 65535 * expected).max() <= 1

    data = FusionData(str(tmp_path / "set"), {"a": "ir", "b": "vi"}, window_a=window, split="test", scenarios=[],
                      num_workers=0)  # fmt: skip
    data.setup("test")
    (batch,) = data.test_dataloader()
    np.testing.assert_allclose(batch["source_a"][0, 0].numpy(), expected, atol=1e-6)

    degrade(str(tmp_path / "set"), str(tmp_path / "copy"), "clean", window_a=window)
    for folder in ("ir", "ir_degraded"):
        levels = read_image(tmp_path / "copy" / folder / "x.png", 1)[..., 0]
        assert np.abs(levels - 255 * expected).max() <= 0.51

    table = tmp_path / "scores.csv"
    evaluate(*places, [str(tmp_path / "fused")], "MSE", str(table), window_a=window)
    ((_, score), *_) = list(csv.reader(table.read_text().splitlines()))[1:]
    # the error against a is nothing, that against the black b is the mean square
    assert float(score) == pytest.approx((expected**2).mean() / 2, rel=2e-2)
