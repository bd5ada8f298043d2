"""No scene and no subject is in two splits."""

from itertools import chain, pairwise
from pathlib import Path

import pytest

from fusion_lightning.datamodules.pairing import PairFiles
from fusion_lightning.datamodules.split import Splits, make_splits, read_splits, write_splits
from fusion_lightning.errors import UserError


def _pairs(names: list[str], folder: str = "ir") -> list[PairFiles]:
    return [PairFiles(name, {"a": f"{folder}/{name}.png"}) for name in names]


def _names(splits: Splits) -> dict[str, list[str]]:
    return {split: [pair.name for pair in pairs] for split, pairs in splits.items()}


def test_blocks_hold_out_runs_of_neighbours() -> None:
    names = [f"{number:05d}" for number in range(0, 600, 2)]
    splits = _names(make_splits({None: _pairs(names)}))
    assert sorted(chain(*splits.values())) == names
    assert {split: len(members) for split, members in splits.items()} == {"train": 210, "val": 30, "test": 60}
    split_of = {name: split for split, members in splits.items() for name in members}
    borders = sum(split_of[a] != split_of[b] for a, b in pairwise(names))
    assert borders <= 12  # six blocks are held out; single frames would make some hundred borders


def test_subjects_stay_together_whatever_the_folders_say() -> None:
    slices = [f"{subject}{number:03d}" for subject in (9, 16, 2, 20, 37, 41) for number in range(10)]
    found = {"train": _pairs(slices[::2]), "test": _pairs(slices[1::2])}
    splits = _names(make_splits(found, "subjects"))
    subjects = {split: {name[:-3] for name in members} for split, members in splits.items()}
    assert sorted(chain(*splits.values())) == sorted(slices)
    assert all(subjects.values())
    assert not subjects["train"] & subjects["test"]
    assert not subjects["train"] & subjects["val"]
    assert not subjects["val"] & subjects["test"]


def test_splits_of_the_folders_are_kept() -> None:
    train, val, test = ([f"{split}{number:02d}" for number in range(20)] for split in "abc")
    found = {"train": _pairs(train), "val": _pairs(val), "test": _pairs(test)}
    assert _names(make_splits(found)) == {"train": train, "val": val, "test": test}
    without_test = _names(make_splits({"train": _pairs(train), "val": _pairs(val)}))
    assert without_test == {"train": train, "val": val, "test": val}
    without_val = _names(make_splits({"train": _pairs(train), "test": _pairs(test)}))
    assert without_val["test"] == test
    assert len(without_val["val"]) == 2
    assert sorted(without_val["train"] + without_val["val"]) == train
    only_test = _names(make_splits({"test": _pairs(test)}))
    assert only_test == {"train": [], "val": test, "test": test}


def test_all_pairs_can_be_tested() -> None:
    assert _names(make_splits({None: _pairs(["1", "2"])}, "test")) == {
        "train": [],
        "val": ["1", "2"],
        "test": ["1", "2"],
    }


def test_too_few_pairs_are_never_trained_on_and_tested() -> None:
    for names in (["1"], ["1", "2"]):
        assert _names(make_splits({None: _pairs(names)})) == {"train": [], "val": names, "test": names}


@pytest.mark.parametrize("names", [[f"{n}" for n in range(1, 21)], [f"7{n:03d}" for n in range(20)]])
def test_subjects_that_names_do_not_hold_are_refused(names: list[str]) -> None:
    with pytest.raises(UserError, match="`split: subjects` finds"):
        make_splits({None: _pairs(names)}, "subjects")


def test_parts_must_leave_some_to_train_on() -> None:
    with pytest.raises(UserError, match=r"`held_out` .* \(0.5, 0.5\)"):
        make_splits({None: _pairs(["1", "2", "3"])}, held_out=(0.5, 0.5))


def test_a_split_file_gives_the_same_splits_back(tmp_path: Path) -> None:
    # the same name in two folders, and names that YAML would read as numbers
    train = ["train/001", *(f"{n:03d}" for n in range(2, 30))]
    found = {"train": _pairs(train, "train"), "test": _pairs(["test/001", "x y", "ä"], "test")}
    splits = make_splits(found)
    path = str(tmp_path / "new" / "split.yaml")
    write_splits(splits, path)
    assert read_splits(found, path) == splits
    assert "train/001" in Path(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["[1, 2]", "train: [a]", "train: 3\nval: 3\ntest: 3", "{", ""])
def test_what_is_no_split_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.yaml").write_text(content)
    with pytest.raises(UserError, match="must hold lists of names"):
        read_splits({None: _pairs(["a"])}, str(tmp_path / "split.yaml"))


def test_names_of_digits_need_no_quotes_and_no_pair_is_in_two(tmp_path: Path) -> None:
    path = tmp_path / "split.yaml"
    path.write_text("train: [00000, 00001]\nval: [00002]\ntest: [1_0]\n")
    found = {None: _pairs(["00000", "00001", "00002", "1_0"])}
    assert _names(read_splits(found, str(path))) == {"train": ["00000", "00001"], "val": ["00002"], "test": ["1_0"]}
    path.write_text("train: [00000, 00001]\nval: [00002]\ntest: [00001]\n")
    with pytest.raises(UserError, match=r"trains on 1 pair that it validates or tests, the first is `00001`"):
        read_splits(found, str(path))


def test_a_split_of_another_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.yaml").write_text("train: [a, b]\nval: [c]\ntest: []")
    with pytest.raises(UserError, match="2 pairs that the data set does not have, the first is `b`"):
        read_splits({None: _pairs(["a"])}, str(tmp_path / "split.yaml"))
