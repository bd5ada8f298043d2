"""Folders become pairs, or one sentence says what is wrong with them."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion_lightning.datamodules.pairing import find_pairs
from fusion_lightning.datamodules.pairs import FolderPairs
from fusion_lightning.errors import UserError

Writer = Callable[..., None]
FOLDERS = {"a": "ir", "b": "vi"}


def test_files_of_one_stem_are_a_pair(tmp_path: Path, write_image: Writer) -> None:
    for name in ("10.png", "9.png"):
        write_image(tmp_path / "ir" / name, 1)
    for name in ("9.jpg", "10.JPG"):
        write_image(tmp_path / "vi" / name.lower(), 3)
    (tmp_path / "vi" / "Thumbs.db").write_bytes(b"stray")
    (tmp_path / "vi" / "._9.jpg").write_bytes(b"stray")
    found = find_pairs(str(tmp_path), FOLDERS)
    assert list(found) == [None]
    assert [pair.name for pair in found[None]] == ["9", "10"]
    pair = FolderPairs(found[None], "b")[0]
    assert (pair.a.shape, pair.b.shape, pair.clean_a) == ((40, 48, 1), (40, 48, 3), None)


@pytest.mark.parametrize("place", ["{split}/{folder}", "{folder}/{split}"])
def test_splits_are_found_around_and_inside_the_folders(tmp_path: Path, place: str, write_image: Writer) -> None:
    for split, name in (("train", "1.png"), ("eval", "2.png"), ("test", "3.png")):
        for folder in FOLDERS.values():
            write_image(tmp_path / place.format(split=split, folder=folder) / name)
    found = find_pairs(str(tmp_path), FOLDERS)
    assert {split: [pair.name for pair in pairs] for split, pairs in found.items()} == {
        "train": ["1"], "val": ["2"], "test": ["3"]
    }  # fmt: skip


def test_a_star_pairs_files_by_what_it_stands_for(tmp_path: Path, write_image: Writer) -> None:
    for name in ("Camp_IR.png", "Camp_Vis.png", "Road2_IR.png", "Road2_Vis.png"):
        write_image(tmp_path / name)
    found = find_pairs(str(tmp_path), {"a": "*_IR.png", "b": "*_Vis.png"})[None]
    assert [pair.name for pair in found] == ["Camp", "Road2"]
    assert found[0].files["b"].endswith("Camp_Vis.png")


def test_a_star_for_a_folder_names_the_scenario(tmp_path: Path, write_image: Writer) -> None:
    for kind in ("Haze", "Noise"):
        for folder in ("Infrared", "Visible"):
            write_image(tmp_path / kind / "train" / folder / "1.png")
    found = find_pairs(str(tmp_path), {"a": "*/{split}/Infrared", "b": "*/{split}/Visible"})["train"]
    assert [(pair.name, pair.scenario) for pair in found] == [("Haze_1", "Haze"), ("Noise_1", "Noise")]


def test_sorted_order_pairs_what_names_do_not(tmp_path: Path, write_image: Writer) -> None:
    for number in (2, 10):
        write_image(tmp_path / "ir" / f"thermal{number}.png")
        write_image(tmp_path / "vi" / f"color{number}.png")
    with pytest.raises(UserError, match="`pair_by: order`"):
        find_pairs(str(tmp_path), FOLDERS)
    found = find_pairs(str(tmp_path), FOLDERS, by_order=True)[None]
    assert [Path(pair.files["b"]).stem for pair in found] == ["color2", "color10"]
    write_image(tmp_path / "vi" / "color3.png")
    with pytest.raises(UserError, match="equally many"):
        find_pairs(str(tmp_path), FOLDERS, by_order=True)


def test_links_and_any_folder_name_work(tmp_path: Path, write_image: Writer) -> None:
    write_image(tmp_path / "elsewhere" / "1.png", 1)
    root = tmp_path / "my [set] ä 红"
    (root / "ir").mkdir(parents=True)
    (root / "ir" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "vi").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert FolderPairs(find_pairs(str(root), FOLDERS)[None], "b")[0].name == "1"


@pytest.mark.parametrize("lacking", ["ir", "vi"])
def test_an_image_without_partner_is_named(make_set: Callable[..., str], lacking: str) -> None:
    root = make_set({"ir": 1, "vi": 3}, ["1.png", "2.png"])
    (Path(root) / lacking / "2.png").unlink()
    other = {"ir": "vi", "vi": "ir"}[lacking]
    with pytest.raises(UserError, match=f"`2`, which is in `{other}` but not in `{lacking}`"):
        find_pairs(root, FOLDERS)


def test_broken_folders_are_named(make_set: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        find_pairs(str(tmp_path / "nowhere"), FOLDERS)
    (tmp_path / "void").mkdir()
    with pytest.raises(UserError, match="neither `ir` nor `vi`"):
        find_pairs(str(tmp_path / "void"), FOLDERS)
    root = make_set({"ir": 1}, ["1.png"])
    with pytest.raises(UserError, match="no images for `b`"):
        find_pairs(root, FOLDERS)


def test_broken_files_are_named_before_anything_is_read(make_set: Callable[..., str]) -> None:
    root = Path(make_set({"ir": 1, "vi": 3}, ["1.png"]))
    (root / "ir" / "1.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="same stem"):
        find_pairs(str(root), FOLDERS)
    (root / "ir" / "1.jpg").unlink()
    (root / "ir" / "2.png").touch()
    with pytest.raises(UserError, match=r"2\.png` is empty"):
        find_pairs(str(root), FOLDERS)
    (root / "ir" / "2.png").unlink()
    (root / "ir" / "2.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"2\.png` is a link to nothing"):
        find_pairs(str(root), FOLDERS)


def test_a_folder_without_permission_is_named(write_image: Writer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        write_image(root / "vi" / "1.png")
        write_image(root / "ir" / "1.png")
        (root / "ir").chmod(0o000)
        root_user = os.geteuid() == 0
        if root_user:
            os.seteuid(65534)
        try:
            with pytest.raises(UserError, match=r"ir(/train)?` cannot be listed"):
                find_pairs(folder, FOLDERS)
        finally:
            if root_user:
                os.seteuid(0)
            (root / "ir").chmod(0o755)


def test_sizes_must_fit_each_other(tmp_path: Path, write_image: Writer) -> None:
    write_image(tmp_path / "ir" / "1.png", 1, (20, 24))
    write_image(tmp_path / "vi" / "1.png", 3, (40, 48))
    pair = FolderPairs(find_pairs(str(tmp_path), FOLDERS)[None], "b")[0]
    assert (pair.a.shape, pair.b.shape) == ((20, 24, 1), (40, 48, 3))
    write_image(tmp_path / "ir" / "1.png", 1, (30, 48))
    with pytest.raises(UserError, match=r"ir/1\.png` has 48×30 pixels and .*vi/1\.png` has 48×40"):
        FolderPairs(find_pairs(str(tmp_path), FOLDERS)[None], "b")[0]
