"""Everything that the documents tell people to type is understood, and does what it says."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser

from fusion_lightning.cli import FusionCLI
from fusion_lightning.configuration import resolve_config_names
from fusion_lightning.datamodules import FusionData
from fusion_lightning.functions_cli import function_of, parse_function_command
from fusion_lightning.imaging.io import write_image
from fusion_lightning.imaging.video import write_video
from fusion_lightning.main import FUNCTION_COMMANDS, TRAINER_COMMANDS, main
from fusion_lightning.methods.loading import known_methods

from .dicom import uptake_fields, write_dicom
from .test_configs import FEW_STEPS, RUNS, learns
from .typed import ROOT, Typed, command_lines, documents, folders_of, loose_options, options_of, other_programs

COMMANDS = list({str(one.words): one for path in documents() for one in command_lines(path)}.values())
EXAMPLES = {"--key.path", "twilight.yaml"}
"""Options and files that stand for any."""
PUBLISHED = (".pth", ".pt")
"""Files with weights that others have published."""
SMALL = ["--trainer.accelerator=cpu", "--trainer.max_steps=1", "--trainer.val_check_interval=1", "--model.size=tiny"]
SMALL += [f"--trainer.limit_{stage}_batches=1" for stage in ("val", "test", "predict")]
SMALL += ["--data.crop_size=32", "--data.batch_size=2", "--data.length=8", "--data.num_workers=0", "--data.quotas=null"]
"""Options that make any run small, and leave all settings of callbacks and checkpoints as they are."""


class _OnlyParse(FusionCLI):
    def before_instantiate_classes(self) -> None:
        raise InterruptedError


@pytest.fixture(scope="module")
def trainer_parser() -> LightningArgumentParser:
    """The parser of the trainer's verbs, made once."""
    kept: list[LightningArgumentParser] = []

    class Keep(_OnlyParse):
        def parse_arguments(self, parser: LightningArgumentParser, args: object) -> None:
            kept.append(parser)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Keep(["fit"])
    return kept[0]


def _understand(command: Typed, parser: LightningArgumentParser) -> None:
    names = {"DATA.yaml": "paired.yaml", "$SLURM_NNODES": "2", "IR.png": "a.png", "VIS.png": "b.png"}
    words = [names.get(word, word) for word in command.words]
    assert words[0] in TRAINER_COMMANDS | FUNCTION_COMMANDS, command
    try:
        if words[0] in TRAINER_COMMANDS:
            parser.parse_args(resolve_config_names(words))
        else:
            parse_function_command(words)
    except SystemExit:
        pytest.fail(f"{command} is not understood: see the error above")


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_line_is_understood(command: Typed, trainer_parser: LightningArgumentParser) -> None:
    _understand(command, trainer_parser)


def test_documents_are_searched() -> None:
    found = {one.document for one in COMMANDS}
    assert {"README.md", "docs/sweeps.md", "docs/distributed.md", "docs/methods/classical.md"} <= found
    assert {one.words[0] for one in COMMANDS} >= {"fit", "test", *FUNCTION_COMMANDS} - {"demo"}


@pytest.mark.parametrize("line", ["fit --config ifcnn.yaml --trainer.max_stepz 3", "fuse --chekpoint CKPT", "fitt"])
def test_an_option_that_does_not_exist_is_found_in_a_document(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer_parser: LightningArgumentParser
) -> None:
    monkeypatch.setattr("tests.typed.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(f"Type\n\n```\npython -m fusion_lightning {line}\n```\n")
    (command,) = command_lines(tmp_path / "page.md")
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        _understand(command, trainer_parser)


def test_every_option_that_is_named_exists(trainer_parser: LightningArgumentParser) -> None:
    known = {option.replace("-", "_").replace("__", "--", 1) for option in _trainer_options(trainer_parser)} | EXAMPLES
    for command in FUNCTION_COMMANDS:
        known |= {f"--{name}" for name in _arguments(function_of(command))}
    for kind, classes in (("model", list(known_methods().values())), ("data", [FusionData])):
        known |= {f"--{kind}.{name}" for one in classes for base in one.__mro__ for name in _arguments(base.__init__)}
    known |= set(re.findall(r'"(--[a-z]+)"', inspect.getsource(sys.modules[main.__module__])))
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\("(--[\w-]+)"', script.read_text(encoding="utf-8")))
    for path in documents():
        for option in (option for found in loose_options(path) for option in options_of(found.words)):
            whole, first = option, ".".join(option.split(".")[:2])
            owner = option.partition(".")[0]
            assert {whole, first} & known or (owner in known and owner not in ("--model", "--data", "--trainer")), (
                f"{path} names {option}, which does not exist"
            )
        for found in loose_options(path):
            resolve_config_names([word for word in found.words if word not in EXAMPLES])


def _trainer_options(parser: LightningArgumentParser) -> set[str]:
    subcommands = next(action for action in parser._actions if getattr(action, "choices", None)).choices
    assert subcommands is not None
    return {option for one in subcommands.values() for action in one._actions for option in action.option_strings}


def _arguments(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_links_to_exists(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_other_things_to_type_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for path in documents():
        for target, *_ in other_programs(path, "make"):
            assert f"\n{target}:" in makefile, f"{path} names `make {target}`"
        for script, *options in other_programs(path, "python"):
            if script.endswith(".py"):
                assert (ROOT / script).is_file(), f"{path} names {script}"
                text = (ROOT / script).read_text(encoding="utf-8")
                assert all(f'"{word}"' in text for word in options if word.startswith("--")), f"{path}: {script}"
        for words in other_programs(path, "python -m pytest"):
            tests = [word.partition("::")[0] for word in words if word.startswith("tests/")]
            assert tests, f"{path} names {words}"
            assert all((ROOT / test).exists() for test in tests), f"{path} names {words}"
        for words in other_programs(path, "pip install"):
            for word in words:
                extra = word.partition("[")[2].strip("]")
                assert not extra or f"\n{extra} =\n" in setup, f"{path} names the extra {extra}"


@pytest.mark.parametrize(
    "more",
    [[], ["--checkpoint.monitor=val/Qabf", "--best.monitor=val/Qabf"], ["--trainer.callbacks=ModelCheckpoint"]],
    ids=["as shipped", "both by one score", "and one of the user's"],
)
def test_the_runs_own_callbacks_never_collide(more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _pairs(tmp_path / "DIR", {"a": "ir", "b": "vi"})
    line = "test --config average.yaml --data paired.yaml --data.root DIR --trainer.logger false --run_id r"
    assert main([*line.split(), "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", *more]) == 0
    assert (tmp_path / "logs" / "average" / "r" / "scores.csv").is_file()


def _pairs(
    folder: Path,
    folders: dict[str, str],
    color: str = "b",
    names: tuple[str, str] = ("{}.png", "{}.png"),
    smaller: int = 1,
) -> None:
    """Six pairs of noise, called like slices of one subject each; source a may be several times smaller."""
    rng = np.random.default_rng(0)
    for side, name, factor in zip("ab", names, (smaller, 1), strict=True):
        shape = (64 // factor, 72 // factor, *([3] if side == color else []))
        for index in range(6):
            path = folder / folders[side] / name.format(f"{index + 10}{index:03d}")
            write_image(path, rng.integers(0, 256, shape).astype(np.uint8))


class _Desk:
    """A folder in which command lines are typed, their placeholders filled, without an activated environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: set[str] = set()
        self.stage1 = ""

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a command line as it is."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": "1",
            "STAGE1": self.stage1,
        }
        line = [sys.executable, "-m", "fusion_lightning", *words]
        return subprocess.run(line, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=280)

    def checkpoint(self, name: str) -> str:
        """The folder of checkpoints of a configuration's run, which is trained when it is first asked for."""
        if name not in self.runs:
            needs = []
            if (first := name.replace("stage2", "stage1")) != name:
                needs = [f"--model.stage1_checkpoint={self.checkpoint(first)}/last.ckpt"]
            words = [f"--config={name}.yaml", *SMALL, *FEW_STEPS.get(name, []), *needs, "--run_id=RUN"]
            done = self.type("fit", *words)
            assert done.returncode == 0, done.stderr[-2000:]
            self.runs.add(name)
        return f"logs/{name}/RUN/checkpoints"

    def fill(self, command: Typed) -> list[str]:
        """The command line with everything there that its placeholders stand for."""
        config = str(command.value("--config")).removesuffix(".yaml")
        if command.words[0] == "sweep":
            self.stage1 = str(self.folder / self.checkpoint("cled_stage1") / "last.ckpt")
        data = (command.value("--data") or "paired.yaml").replace("DATA.yaml", "paired.yaml")
        words = []
        for before, word in zip(("", *command.words), command.words, strict=False):
            if word == "DATA.yaml":
                word = data
            elif before == "--data.root" or word == "data/TNO":
                word = f"{data}-root"
                _pairs(self.folder / word, *folders_of(data))
            elif before in ("--output", "--log_dir"):
                word = f"out-{len(list(self.folder.iterdir()))}"
            elif word in ("DIR", "IR", "VIS", "OURS", "THEIRS", "IR.png", "VIS.png"):
                averaged = 4 if any("downsample(4)" in one for one in command.words) else 1
                _pairs(self.folder, {"a": "IR", "b": "VIS"}, smaller=averaged)
                _pairs(self.folder / "both", {"a": "ir", "b": "vi"})
                _pairs(self.folder, {"a": "OURS", "b": "THEIRS"})
                word = {"DIR": "both" if before == "--input" else "IR"}.get(word, word)
                word = {"IR.png": "IR/10000.png", "VIS.png": "VIS/10000.png"}.get(word, word)
            elif word in ("PET", "MRI"):
                counts = np.arange(64 * 72, dtype=np.uint16).reshape(64, 72) % 4096
                (self.folder / word).mkdir(exist_ok=True)
                write_dicom(self.folder / word / "1.dcm", counts, **(uptake_fields() if word == "PET" else {}))
            elif word.endswith(".nii.gz"):
                pytest.importorskip("nibabel").Nifti1Image(
                    np.arange(24**3, dtype=np.int16).reshape(24, 24, 24), np.eye(4)
                ).to_filename(self.folder / word)
            elif word in ("IR.mp4", "VIS.mp4", "DIR/IR.mp4"):
                (self.folder / word).parent.mkdir(exist_ok=True)
                frames = list(np.random.default_rng(0).integers(0, 256, (3, 64, 72), np.uint8))
                write_video(self.folder / word, frames, 25, "mp4")
            elif word.startswith("DIR/*"):
                _pairs(self.folder, {"a": "DIR", "b": "DIR"}, names=("{}_IR.jpg", "{}_VIS.jpg"))
            elif word in ("CKPT", "prior.ckpt"):
                undoes = "--degradation-a" in command.words
                name = "prior" if word == "prior.ckpt" else "drfusion" if undoes else config
                word = f"{self.checkpoint('ifcnn' if name == 'None' else name)}/last.ckpt"
            elif run := re.match(r"logs/(\w+)/RUN/checkpoints", word):
                self.checkpoint(run.group(1))
            words.append(word)
        return words


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> _Desk:
    """A place to type in, whose checkpoints all command lines share."""
    return _Desk(tmp_path_factory.mktemp("desk"))


def _smaller(command: Typed, folder: Path) -> list[str]:
    """What makes a command line short without changing what it does."""
    verb, config = command.words[0], str(command.value("--config")).removesuffix(".yaml")
    if verb in TRAINER_COMMANDS:
        devices = ["--data.length=32"] if command.value("--trainer.devices") else ["--trainer.devices=1"]
        return [*SMALL, *FEW_STEPS.get(config, []), *devices]
    if verb == "sweep":
        found = Path(resolve_config_names(["--config", str(command.value("--config"))])[1])
        content = yaml.safe_load(found.read_text(encoding="utf-8"))
        content["command"][-1:] = [*SMALL, "${args}"]
        content["parameters"].pop("model.init_args.size", None)
        (folder / "sweeps").mkdir(exist_ok=True)
        (folder / "sweeps" / found.name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return ["--trials=1", f"--config=sweeps/{found.name}"]
    return {"benchmark": ["--limit=1"], "gallery": ["--width=32"]}.get(verb, [])


def _elsewhere(command: Typed) -> bool:
    """Whether it needs other people's weights, several machines, or somebody who ends it."""
    return command.words[0] == "app" or any(
        word.endswith(PUBLISHED) or word in ("ddp_2node.yaml", "slurm.yaml", "published.yaml") for word in command.words
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", [one for one in COMMANDS if not _elsewhere(one)], ids=str)
def test_every_command_line_does_what_it_says(command: Typed, desk: _Desk) -> None:
    done = desk.type(*desk.fill(command), *_smaller(command, desk.folder))
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if learns(name)])
def test_every_configuration_trains_a_step_by_itself(name: str, desk: _Desk) -> None:
    desk.checkpoint(name)
