"""One way to find and pair files, for commands and data modules: each kind of name that people's files have."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fusion_lightning.datamodules.pairing import find_images, find_pairs, pair_images
from fusion_lightning.datamodules.pairs import FolderPairs, read_sources
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.io import write_image
from fusion_lightning.imaging.windows import Window

Writer = Callable[..., None]
FOLDERS = {"a": "ir", "b": "vi"}
WINDOWS = (Window(), Window())


def _both_ways(root: Path) -> tuple[list[str], list[str]]:
    """The names that the commands and the data module find."""
    places = {"--source-a": str(root / "ir"), "--source-b": str(root / "vi")}
    return list(pair_images(places)), [pair.name for pair in find_pairs(str(root), FOLDERS)[None]]


def test_endings_tell_the_images_of_a_pair_apart(tmp_path: Path, write_image: Writer) -> None:
    for number in (9, 10):
        write_image(tmp_path / "ir" / f"FLIR_{number}_IR.jpg", 1)
        write_image(tmp_path / "vi" / f"FLIR_{number}_VIS.png", 3)
    assert _both_ways(tmp_path) == (["FLIR_9", "FLIR_10"],) * 2
    places = {"--source-a": f"{tmp_path}/ir/*_IR.jpg", "--source-b": f"{tmp_path}/vi/*_VIS.*"}
    assert list(pair_images(places)) == ["FLIR_9", "FLIR_10"]


def test_forms_of_unicode_are_one_name(tmp_path: Path, write_image: Writer) -> None:
    write_image(tmp_path / "ir" / (unicodedata.normalize("NFC", "nächte") + ".png"), 1)
    write_image(tmp_path / "vi" / (unicodedata.normalize("NFD", "nächte") + ".png"), 3)
    assert _both_ways(tmp_path) == ([unicodedata.normalize("NFC", "nächte")],) * 2


def test_what_a_mac_leaves_is_passed_over_and_what_is_not_read_is_named(
    tmp_path: Path, write_image: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("ir", "vi"):
        write_image(tmp_path / folder / "1.png", 1)
        (tmp_path / folder / "._1.png").write_bytes(b"\0\5\x16\7")
        (tmp_path / folder / "2.heic").write_bytes(b"photo")
    assert _both_ways(tmp_path) == (["1"], ["1"])
    assert capsys.readouterr().err.count("2.heic is passed over") == 2  # once for each file


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "Test")]
)
@pytest.mark.parametrize("place", ["{split}/{folder}", "{folder}/{split}"])
def test_split_folders_have_many_names(tmp_path: Path, write_image: Writer, names: tuple[str, ...], place: str) -> None:
    for number, split in enumerate(names):
        for folder in FOLDERS.values():
            write_image(tmp_path / place.format(split=split, folder=folder) / f"{number}.png", 1)
    found = find_pairs(str(tmp_path), FOLDERS)
    assert {split: [pair.name for pair in pairs] for split, pairs in found.items()} == {
        "train": ["0"], "val": ["1"], "test": ["2"]
    }  # fmt: skip


@pytest.mark.parametrize("place", ["{split}/{folder}", "{folder}/{split}"])
def test_a_folder_that_is_no_known_split_is_named(
    tmp_path: Path, write_image: Writer, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    for split in ("train", "holdout"):
        for folder in FOLDERS.values():
            write_image(tmp_path / place.format(split=split, folder=folder) / "0.png", 1)
    assert list(find_pairs(str(tmp_path), FOLDERS)) == ["train"]
    assert "holdout also holds images" in capsys.readouterr().err


def test_no_two_pairs_share_a_name(tmp_path: Path, write_image: Writer) -> None:
    for split in ("train", "test"):
        for folder in FOLDERS.values():
            write_image(tmp_path / split / folder / "1.png", 1)
    found = find_pairs(str(tmp_path), FOLDERS)
    assert [pair.name for pairs in found.values() for pair in pairs] == ["train/1", "test/1"]
    for kind in ("a_/b", "a/_b"):
        for folder in FOLDERS.values():
            write_image(tmp_path / "kinds" / kind / folder / "1.png", 1)
    with pytest.raises(UserError, match="would share the name `a__b_1`"):
        find_pairs(str(tmp_path / "kinds"), {"a": "*/*/ir", "b": "*/*/vi"})


def test_folders_that_are_there_are_named(tmp_path: Path, write_image: Writer) -> None:
    write_image(tmp_path / "thermal" / "1.png", 1)
    with pytest.raises(UserError, match="folders there are: thermal"):
        find_pairs(str(tmp_path), FOLDERS)


def test_the_home_folder_is_known(tmp_path: Path, write_image: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in FOLDERS.values():
        write_image(tmp_path / "set" / folder / "1.png", 1)
    assert list(find_images("~/set/ir", "--source-a")) == ["1"]
    assert [pair.name for pair in find_pairs("~/set", FOLDERS)[None]] == ["1"]


@pytest.mark.parametrize(("size", "fits"), [((20, 24), True), ((25, 30), True), ((48, 40), False), ((30, 48), False)])
def test_one_rule_for_sizes(tmp_path: Path, size: tuple[int, int], fits: bool) -> None:
    rng = np.random.default_rng(0)
    for folder, shape in (("ir", size), ("vi", (40, 48))):
        write_image(tmp_path / folder / "1.png", rng.integers(0, 256, shape, np.uint8))
    (pair,) = find_pairs(str(tmp_path), FOLDERS)[None]
    if fits:
        assert FolderPairs([pair], "b")[0].a.shape[:2] == size
        assert read_sources(pair.files, WINDOWS)["a"].shape[:2] == size
    else:
        words = rf"{size[1]}×{size[0]}.*48×40|48×40.*{size[1]}×{size[0]}"
        for read in (lambda: FolderPairs([pair], "b")[0], lambda: read_sources(pair.files, WINDOWS)):
            with pytest.raises(UserError, match=words):
                read()
    assert FolderPairs([pair], "b", resize="a")[0].b.shape[:2] == size
    assert read_sources(pair.files, WINDOWS, "b")["a"].shape[:2] == (40, 48)


def test_a_source_in_another_colour_is_refused_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in FOLDERS.values():
        write_image(tmp_path / folder / "1.png", np.repeat(rng.integers(0, 256, (4, 5, 3), np.uint8), 16, axis=0))
    (pair,) = find_pairs(str(tmp_path), FOLDERS)[None]
    with pytest.raises(UserError, match=r"ir/1\.png` is in colour"):
        FolderPairs([pair], "b")[0]
    with pytest.raises(UserError, match="are both in colour"):
        read_sources(pair.files, WINDOWS)
