"""The models that ship: their files, their names wherever a checkpoint can be named, and what they do."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fusion_lightning import zoo
from fusion_lightning.commands.benchmark.store import digests
from fusion_lightning.commands.estimators import estimator_name
from fusion_lightning.datamodules import FusionData
from fusion_lightning.degradations import degrade, parse
from fusion_lightning.degradations.labels import seen_kinds
from fusion_lightning.errors import UserError, notice
from fusion_lightning.imaging.convert import to_float, to_image, to_tensor
from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.methods import Blind, CLEDStage2, DegradationEstimator, build_method, load_method
from fusion_lightning.zoo import BEST, ESTIMATOR, Model, checkpoint_of, models
from tests.dicom import write_dicom

NAMES = sorted(models())
PAGES = Path(__file__).parent.parent / "docs" / "models"


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_what_the_catalogue_says(name: str) -> None:
    model, method = models()[name], load_method(name)
    assert type(method).__name__ == model.method
    assert sum(weight.numel() for weight in method.parameters()) / 1e6 == pytest.approx(model.millions, abs=0.006)
    saved = torch.load(model.file, weights_only=True)
    learned = {key for key, _ in method.named_parameters()}
    assert all((weight.dtype == torch.float16) == (key in learned) for key, weight in saved["state_dict"].items())
    page = (PAGES / f"{name.partition('-')[0]}.md").read_text(encoding="utf-8")
    assert name in page


def test_the_wheel_stays_light() -> None:
    sizes = [model.file.stat().st_size for model in models().values()]
    assert max(sizes) <= 12e6
    assert sum(sizes) <= 30e6


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the zoo that may be spoilt."""
    folder = tmp_path / "zoo"
    shutil.copytree(Path(zoo.__file__).parent, folder)
    monkeypatch.setattr(zoo, "_FOLDER", folder)
    zoo._checked.cache_clear()
    return folder


def test_weights_that_were_changed_are_refused(copied: Path) -> None:
    file = copied / f"{BEST}.ckpt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"is not the {BEST} that ships .*: install the package again"):
        load_method(BEST)


def test_missing_weights_are_named(copied: Path) -> None:
    (copied / f"{BEST}.ckpt").unlink()
    with pytest.raises(UserError, match=f"the weights of {BEST}, is missing: install the package again"):
        build_method(BEST)


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert checkpoint_of(tmp_path / "cled") == tmp_path / "cled"
    assert checkpoint_of("./cled") == Path("cled")


def test_a_name_is_a_first_stage() -> None:
    method = CLEDStage2(stage1_checkpoint="cled-stage1", size="tiny")
    weights = load_method("cled-stage1").state_dict()
    for name, weight in method.restorer.state_dict().items():
        assert torch.equal(weight, weights[f"restorer.{name}"])


def test_a_name_is_a_method_of_the_benchmark_and_a_part_of_another(tmp_path: Path) -> None:
    specification = {
        "class_path": "RestoreThenFuse",
        "init_args": {"restorer": "cled-stage1", "fuser": "laplacian"},
    }
    config = {
        "methods": {"ours": BEST, "restored first": specification, "entry": {"checkpoint": BEST}},
        "data": {"scenes": {"config": "synthetic.yaml", "length": 8, "scene_size": 48}},
        "scenarios": ["noise"],
    }
    (tmp_path / "bench.yaml").write_text(yaml.safe_dump(config))
    assert main(["benchmark", f"--config={tmp_path / 'bench.yaml'}", f"--output={tmp_path / 'out'}", "--limit=1"]) == 0
    assert digests(specification) == {"cled-stage1": models()["cled-stage1"].sha256}


def test_a_training_starts_from_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["fit", "--config=zoo_cled_stage1.yaml", "--config=smoke.yaml", "--data=synthetic.yaml",
            "--start_from=cled-stage1", f"--log_dir={tmp_path}", "--run_id=tuned", "--trainer.max_steps=1",
            "--model.optimizer.init_args.lr=0", "--trainer.callbacks=null", "--precision=fp32"]  # fmt: skip
    assert main(line) == 0
    tuned = load_method(next(tmp_path.rglob("last.ckpt"))).state_dict()
    assert all(torch.equal(tuned[name], weight) for name, weight in load_method("cled-stage1").state_dict().items())
    assert "start_from: cled-stage1" in next(tmp_path.rglob("config.yaml")).read_text()
    for other, words in (
        (["--start_from=cled"], "cled holds a CLEDStage2, and a CLEDStage1 cannot start from its weights"),
        (["--model.init_args.size=small"], "does not fit .* CLEDStage1: .*; it was trained with size: tiny"),
    ):
        capsys.readouterr()
        assert main([*line, "--run_id=refused", *other]) != 0
        assert re.search(words, capsys.readouterr().err)
        assert not list(tmp_path.rglob("refused/checkpoints"))


def test_a_name_is_tested(tmp_path: Path) -> None:
    assert main(["test", "--config=cled_stage2.yaml", "--config=smoke.yaml", f"--ckpt_path={BEST}",
                 f"--log_dir={tmp_path}"]) == 0  # fmt: skip
    assert list(tmp_path.rglob("scores.csv"))


def test_without_a_method_the_best_one_fuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side, image in (("a", torch.rand(1, 40, 56)), ("b", torch.rand(3, 40, 56))):
        write_image(tmp_path / side / "one.png", to_image(image))
    sources = [f"--source-a={tmp_path / 'a'}", f"--source-b={tmp_path / 'b'}"]
    assert main(["fuse", *sources, f"--output={tmp_path / 'bare'}"]) == 0
    assert f"no --method was named, so {BEST} fuses" in capsys.readouterr().err
    for option in ("method", "checkpoint"):
        assert main(["fuse", *sources, f"--output={tmp_path / option}", f"--{option}={BEST}"]) == 0
        assert (read_image(tmp_path / option / "one.png") == read_image(tmp_path / "bare" / "one.png")).all()


@pytest.mark.parametrize(
    ("name", "scenario", "sides"),
    [
        (BEST, "noise", "ab"),
        (BEST, "low_light", "b"),
        ("drfusion", "drfusion_blur", "ab"),
        ("drfusion-medical", "drfusion_medical_blur", "b"),
        ("restormer", "noise", "ab"),
    ],
)
def test_it_restores_scenes_it_never_saw(name: str, scenario: str, sides: str) -> None:
    """Drawn scenes: the sources come closer to the clean ones by more than 3 dB."""
    scenes: Any = "medical" if "medical" in name else "street"
    data = FusionData(scenes=scenes, scenarios=[scenario], batch_size=2, num_workers=0, length=2)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    method = build_method(name)
    with torch.no_grad():
        output = method(batch)

    def loss(image: torch.Tensor, clean: torch.Tensor) -> float:
        return float((image - clean).square().mean())

    for side in sides:
        before = loss(batch[f"source_{side}"], batch[f"clean_{side}"])  # type: ignore[literal-required]
        after = loss(output[f"restored_{side}"], batch[f"clean_{side}"])  # type: ignore[literal-required]
        assert after < before / 2


def test_without_an_estimator_the_one_that_ships_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "one.png", to_image(torch.rand(1, 64, 72)))
    tables = []
    for named in ([], ["--estimator", ESTIMATOR]):
        notice.cache_clear()  # a note is made once per process
        assert main(["inspect", f"--source-a={tmp_path / 'one.png'}", "--format=markdown", *named]) == 0
        seen = capsys.readouterr()
        assert (f"no --estimator was named, so {ESTIMATOR} looks" in seen.err) == (not named)
        tables.append(seen.out)
    assert tables[0] == tables[1]


@pytest.mark.parametrize("medical", [False, True])
def test_the_note_about_medical_images_is_made_of_medical_files(
    medical: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.png"
    if medical:
        path = write_dicom(tmp_path / "one.dcm", np.arange(768, dtype=np.uint16).reshape(24, 32))
    else:
        write_image(path, to_image(torch.rand(1, 64, 72)))
    notice.cache_clear()
    estimator_name(None, [path])
    assert ("medical" in capsys.readouterr().err) == medical


def test_blind_takes_the_estimator_that_ships() -> None:
    estimator = Blind("RestoreThenFuse").estimator
    assert isinstance(estimator, DegradationEstimator)
    shipped = load_method(ESTIMATOR).state_dict()
    assert all(torch.equal(weight, shipped[name]) for name, weight in estimator.state_dict().items())


@pytest.mark.parametrize("side", ["ir", "vi"])
def test_the_estimator_finds_what_was_done_to_a_real_image(shared: Path, side: str) -> None:
    image = to_float(read_image(shared / "data" / "MSRS" / "test" / side / "00081D.png", 1 if side == "ir" else 3))
    estimator = build_method(ESTIMATOR)
    assert isinstance(estimator, DegradationEstimator)
    for text in ("identity", "noise(sigma=14)", "blur(sigma=2)", "stripes(sigma=10)", "jpeg(quality=10)", "low_light@4",
                 "blur(sigma=2)+noise(sigma=8)"):  # fmt: skip
        degraded, effects = degrade(image, parse(text), np.random.default_rng(0))
        (found,) = estimator.estimate((to_tensor(degraded)[None] * 255).round() / 255)
        true = seen_kinds(effects)
        assert set(found.kinds) == set(true), f"{text}: {found.text()}"
        for name, most in (("noise", 2.5), ("blur", 0.4)):
            if name in true:
                assert found.kinds[name] == pytest.approx(true[name], abs=most)


def test_a_model_is_described_in_full() -> None:
    for model in models().values():
        assert isinstance(model, Model)
        assert model.scores
        assert model.licence
