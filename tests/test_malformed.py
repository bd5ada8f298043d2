"""Two hundred malformed inputs: each gives one sentence, no traceback, and leaves every file as it was."""

import hashlib
import io
import pickle
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_lightning.configuration import config_folder
from fusion_lightning.imaging.io import write_image
from fusion_lightning.main import main

from .conftest import TINY, Code

FIT = f"fit --config cled_stage1.yaml --config smoke.yaml {shlex.join(TINY)}"
FUSE = "fuse --checkpoint STAGE1 --source-a TMP/a --source-b TMP/b --output TMP/out"
EVALUATE = "evaluate --source-a TMP/a --source-b TMP/b --fused TMP/b"

WRONG = {
    "data.length": ["0", "-3", "1.5", "many"],
    "data.scene_size": ["0", "abc"],
    "data.crop_size": ["0", "-8", "wide"],
    "data.batch_size": ["0", "-1", "two"],
    "data.num_workers": ["-1", "1.5"],
    "data.seed": ["-1", "x"],
    "data.color": ["c"],
    "data.pair_by": ["size"],
    "data.scenes": ["seaside"],
    "data.scenarios": ["[fog]", "nothing", "{night: {a: dark}}"],
    "data.quotas": ["{fog: 1}", "{noise: 99}", "{noise: -1}", "[noise]"],
    "data.held_out": ["[0.1]", "half"],
    "model.size": ["huge", "3"],
    "model.timesteps": ["0", "-5", "all"],
    "model.sampling_steps": ["0", "-1", "2000", "x"],
    "model.sampler": ["euler"],
    "model.objective": ["image"],
    "model.times": ["some"],
    "model.start_noise": ["loud", "-1"],
    "model.metrics": ["[Qabff]", "[1]", "MI"],
    "model.score_against": ["nothing"],
    "model.optimizer": ["Adamm", "torch.nn.Linear"],
    "model.optimizer.lr": ["fast", "-1.0"],
    "trainer.max_steps": ["abc", "-2", "1.5"],
    "trainer.accelerator": ["quantum"],
    "trainer.devices": ["0", "many", "-3"],
    "trainer.strategy": ["magic"],
    "trainer.precision": ["7", "half"],
    "trainer.gradient_clip_val": ["x"],
    "trainer.accumulate_grad_batches": ["0", "x"],
    "trainer.val_check_interval": ["-1", "0", "x"],
    "trainer.limit_val_batches": ["-1", "x"],
    "trainer.log_every_n_steps": ["x", "-1"],
    "trainer.max_time": ["soon"],
    "trainer.callbacks": ["Nothing"],
    "checkpoint.every_n_train_steps": ["-1", "x"],
    "checkpoint.save_top_k": ["-2", "7"],
    "best.mode": ["middle"],
    "previews.count": ["-1", "x"],
    "previews.width": ["0", "x"],
    "faults.action": ["ignore"],
    "experiment": ["a/b", "..", "ü ö"],
    "run_id": ["a/b", ".", "*"],
    "seed_everything": ["x", "-1"],
    "log_dir": ["TMP/a/x.png", "TMP/a/x.png/below"],
    "no_such_option": ["1"],
    "model.no_such_option": ["1"],
    "trainer.no.such": ["1"],
}
"""Options -> values of the wrong kind or out of their range, and options that are not there."""

YAML = {
    "empty": "",
    "list": "- 1\n- 2\n",
    "text": "just some words",
    "number": "42",
    "tabs": "model:\n\tclass_path: CLEDStage1\n",
    "unclosed": "model: {class_path: CLEDStage1",
    "anchor": "model: *nothing",
    "data_number": "data: 3\n",
    "unknown_key": "modle: {init_args: {size: tiny}}\n",
    "unknown_option": "model: {init_args: {sizes: tiny}}\n",
    "no_class": "model: {class_path: CLEDStage9}\n",
    "other_class": "data: {class_path: torch.nn.Linear}\n",
    "deep": "trainer: {max_steps: {now: {here: 1}}}\n",
    "twice": "trainer: {max_steps: 1}\ntrainer: [2]\n",
    "python": "model: !!python/object/apply:os.system ['true']\n",
}
"""Files that are no YAML, or not the right one."""

CHECKPOINTS = (
    "none",
    "empty",
    "text",
    "half",
    "head",
    "tail",
    "flipped",
    "list",
    "tensor",
    "foreign",
    "code",
    "pickled",
)
CHECKPOINTS += ("without_method", "without_state_dict", "without_hyper_parameters", "elsewhere", "another_size", "old")
IMAGES = ("empty", "text", "cut_png", "cut_jpg", "folder", "float", "flipped")


def arguments() -> Iterator[str]:
    """Wrong options."""
    for option, values in WRONG.items():
        yield from (f"{FIT} --{option}={shlex.quote(value)}" for value in values)


def configurations() -> Iterator[str]:
    """Wrong files of configurations."""
    for name in ("empty", "list", "text", "number", "binary", "tabs", "unclosed", "anchor", "cut", "model_list"):
        yield f"fit --config TMP/yaml/{name}.yaml"
    for name in ("data_number", "unknown_key", "unknown_option", "no_class", "other_class", "deep", "twice", "python"):
        yield f"fit --config cled_stage1.yaml --config TMP/yaml/{name}.yaml"
    for name in (
        "TMP/none.yaml",
        "TMP/a",
        "nothing_like_it.yaml",
        "sweeps/search_cled_stage1.yaml",
        "degrade_night.yaml",
    ):
        yield f"fit --config {name}"
    yield "degrade --config cled_stage1.yaml --input TMP/a --output TMP/out"
    for name in ("yaml/empty.yaml", "yaml/list.yaml", "yaml/binary.yaml", "yaml/unclosed.yaml", "yaml/no_class.yaml"):
        yield f"sweep --config TMP/{name} --log_dir TMP/out"
    for name in ("TMP/none.yaml", "cled_stage1.yaml", "sweeps/search_cled_stage1.yaml --trials 0"):
        yield f"sweep --config {name} --log_dir TMP/out"


def checkpoints() -> Iterator[str]:
    """Checkpoints that are damaged, foreign, would run code, or belong to something else."""
    for name in CHECKPOINTS:
        path = f"TMP/ckpt/{name}.ckpt"
        yield f"fuse --checkpoint {path} --source-a TMP/a --source-b TMP/b --output TMP/out"
        yield f"test {FIT.removeprefix('fit ')} --ckpt_path {path}"
        # another size is no fault there: stage 1 is built as its checkpoint says, and does not fit it
        yield f"fit --config cled_stage2.yaml --config smoke.yaml --model.stage1_checkpoint {path} --log_dir TMP/out"
    for path in ("TMP/ckpt/half.ckpt", "TMP", "last"):
        yield f"{FIT} --ckpt_path {path}"


def images() -> Iterator[str]:
    """Images that are damaged, missing, or do not fit together."""
    for name in IMAGES:
        yield f"fuse --checkpoint STAGE1 --source-a TMP/bad/{name} --source-b TMP/b --output TMP/out"
        yield f"evaluate --source-a TMP/a --source-b TMP/b --fused TMP/bad/{name} --output TMP/out.csv"
        yield f"degrade --config degrade_night.yaml --input TMP/bad/{name} --output TMP/out"
        yield f"{FIT} --data.root=TMP/bad --data.folders='{{a: {name}, b: {name}}}' --data.check=true"
    yield FUSE.replace("TMP/b", "TMP/other")
    yield FUSE.replace("TMP/a", "TMP/color").replace("TMP/b", "TMP/color")
    yield EVALUATE.replace("--fused TMP/b", "--fused TMP/large")
    yield EVALUATE.replace("--fused TMP/b", "--fused TMP/other")


def commands() -> Iterator[str]:
    """Commands that are misspelt, incomplete, or would write where something is."""
    yield from ("fitt", "fit", "fuse", "evaluate", "degrade", "sweep", "test", "--no-such", "fit --config")
    for more in ("--device=gpu9", "--strength-a=-1", "--strength-b=nan", "--balance=2", "--balance=x", "--no-such=1"):
        yield f"{FUSE} {more}"
    for good, bad in (("out", "a/x.png"), ("out", "full"), ("a", "none"), ("a", "empty")):
        yield FUSE.replace(f"TMP/{good}", f"TMP/{bad}")
    for more in ("--metrics=VIFF", "--metrics=", "--format=pdf", "--output=TMP", "--output=TMP/full/x.png"):
        yield f"{EVALUATE} {more}"
    yield EVALUATE.replace("--fused TMP/b", "")
    yield EVALUATE.replace("TMP/a", "TMP/none")
    for more in ("--seed=x", "--seed=-1", "--output=TMP/full", "--input=TMP/none", "--input=TMP/empty"):
        yield f"degrade --config degrade_night.yaml --input=TMP/a --output=TMP/out {more}"
    yield "test --config cled_stage1.yaml"
    yield "predict --config cled_stage1.yaml --ckpt_path=best --run_id=r --log_dir=TMP/out"
    yield "validate --config cled_stage1.yaml --ckpt_path=last --run_id=r --log_dir=TMP/out"
    yield "fit --config cled_stage2.yaml"
    yield f"{FIT} --data.root=TMP --data.folders='{{a: a, b: b}}' --data.held_out='[0.9, 0.9]'"
    yield f"{FIT} --data.root=TMP/none"
    yield f"{FIT} --data.root=TMP/empty"


INPUTS = list(dict.fromkeys([*arguments(), *configurations(), *checkpoints(), *images(), *commands()]))
STRIDE = 12
"""Every so many-th is tried in the fast suite."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, stage1: str) -> dict[str, str]:
    """Good and bad files to point commands at."""
    folder = tmp_path_factory.mktemp("malformed")
    good = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    for name in ("a/x", "b/x", "other/y", "full/x", "full/a/x"):
        write_image(folder / f"{name}.png", good)
    write_image(folder / "color" / "x.png", cv2.applyColorMap(good, cv2.COLORMAP_JET))
    write_image(folder / "large" / "x.png", np.repeat(good, 2, axis=0))
    (folder / "empty").mkdir()
    _write_configurations(folder / "yaml")
    _write_checkpoints(folder / "ckpt", Path(stage1))
    _write_images(folder / "bad", good)
    return {"TMP": str(folder), "STAGE1": stage1}


def _write_configurations(folder: Path) -> None:
    folder.mkdir()
    good = (config_folder() / "cled_stage1.yaml").read_text()
    cut = good[: len(good) // 2].rpartition("\n")[0] + "\n  in"
    listed = good.replace("model:\n  class_path: CLEDStage1", "model:\n- CLEDStage1\nrest:")
    for name, content in {**YAML, "cut": cut, "model_list": listed}.items():
        (folder / f"{name}.yaml").write_text(content)
    (folder / "binary.yaml").write_bytes(bytes(range(256)))


def _write_checkpoints(folder: Path, stage: Path) -> None:
    folder.mkdir()
    content = stage.read_bytes()
    saved = torch.load(stage, weights_only=True)
    middle = len(content) // 2
    for name, data in {
        "empty": b"",
        "text": b"not a checkpoint",
        "half": content[:middle],
        "head": content[:100],
        "tail": content[100:],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],  # a single bit
        "pickled": pickle.dumps({"state_dict": {}}),
    }.items():
        (folder / f"{name}.ckpt").write_bytes(data)
    for name, thing in {
        "list": [1, 2],
        "tensor": torch.zeros(3),
        "foreign": {"state_dict": {"weight": torch.zeros(3)}},
        "code": {**saved, "extra": Code()},
        "without_method": {key: value for key, value in saved.items() if key != "method"},
        "without_state_dict": {key: value for key, value in saved.items() if key != "state_dict"},
        "without_hyper_parameters": {key: value for key, value in saved.items() if key != "hyper_parameters"},
        "elsewhere": {**saved, "method": "Elsewhere"},
        "another_size": {**saved, "hyper_parameters": {**saved["hyper_parameters"], "size": "small"}},
        "old": {**saved, "hyper_parameters": {"layers": 3}},
    }.items():
        buffer = io.BytesIO()
        torch.save(thing, buffer)
        (folder / f"{name}.ckpt").write_bytes(buffer.getvalue())


def _write_images(folder: Path, good: np.ndarray) -> None:
    png, jpg = (cv2.imencode(suffix, good)[1].tobytes() for suffix in (".png", ".jpg"))
    for name, file, data in (
        ("empty", "x.png", b""),
        ("text", "x.png", b"not an image"),
        ("cut_png", "x.png", png[: len(png) // 2]),
        ("cut_jpg", "x.jpg", jpg[: len(jpg) // 2]),
        ("flipped", "x.png", bytes(byte ^ 0xFF for byte in png)),
    ):
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_bytes(data)
    (folder / "folder" / "x.png").mkdir(parents=True)
    (folder / "float").mkdir()
    cv2.imwrite(str(folder / "float" / "x.tiff"), good.astype(np.float32) * 100)


def _state(folder: str) -> dict[str, str]:
    """Every file and folder, and what is in it."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in Path(folder).rglob("*")
    }


def test_there_are_two_hundred() -> None:
    assert len(INPUTS) >= 200


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[] if number % STRIDE == 0 else pytest.mark.slow) for number, line in enumerate(INPUTS)],
)
def test_a_malformed_input_gives_one_sentence(
    line: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, place in places.items():
        line = line.replace(name, place)
    before = _state(places["TMP"])
    assert main(shlex.split(line)) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert sum(one.startswith("error: ") for one in said) == 1
    assert len(said[-1]) < 700
    assert "traceback" not in "".join(said).lower()
    assert _state(places["TMP"]) == before
    assert not list(tmp_path.iterdir())
