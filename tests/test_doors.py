"""No file that a stranger may hand over runs code: every door is tried with a class that leaves a mark."""

import importlib
import inspect
import pkgutil
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback

import fusion_lightning.commands
from fusion_lightning.datamodules import FusionData
from fusion_lightning.errors import UserError
from fusion_lightning.main import FUNCTION_COMMANDS, main
from fusion_lightning.methods import CLEDStage2, FusionMethod, RestoreThenFuse, build_method, find_method, load_method
from fusion_lightning.methods.loading import known_methods

from .conftest import TINY, save


class Trap:
    """Leaves a mark when it is made."""

    sprung = False

    def __init__(self, *given: object, **more: object) -> None:
        Trap.sprung = True


class Takes(Callback):
    """What a configuration may name, with an argument that may be anything."""

    def __init__(self, anything: Any = None, more: dict[str, Any] | None = None) -> None:
        self.anything = anything


PATH = f"{__name__}.Trap"
TRAP: dict[str, Any] = {"class_path": PATH, "init_args": {"x": 1}}
STAGE1 = ["--config=cled_stage1.yaml", "--config=smoke.yaml", *TINY]


@pytest.fixture(autouse=True)
def _nothing_springs() -> Iterator[None]:
    Trap.sprung = False
    yield
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("verb", "trap"),
    [
        ("test", TRAP),
        *(
            pytest.param(verb, trap, marks=pytest.mark.slow)
            for verb in ("fit", "validate", "predict", "test")
            for trap in (TRAP, PATH, [TRAP], {"deeper": TRAP})
        ),
    ],
)
def test_a_checkpoint_never_names_a_class(
    verb: str, trap: Any, stage1: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = torch.load(stage1, weights_only=True)
    path = tmp_path / "evil.ckpt"
    for key in ("optimizer", "size", "start_noise", "no_such_argument"):
        torch.save({**saved, "hyper_parameters": {**saved["hyper_parameters"], key: trap}}, path)
        code = main([verb, *STAGE1, f"--ckpt_path={path}", f"--log_dir={tmp_path / 'logs'}"])
        said = capsys.readouterr().err
        assert "Traceback" not in said, key
        assert code == 0 or "traceback" not in said.splitlines()[-1], key


def test_a_checkpoint_of_parts_never_names_a_class(tmp_path: Path) -> None:
    method = RestoreThenFuse()
    path = tmp_path / "parts.ckpt"
    save(method, path)
    saved = torch.load(path, weights_only=True)
    for trap in (TRAP, PATH, {"class_path": "ClassicalRestorer", "init_args": {"denoiser": TRAP}}):
        torch.save({**saved, "hyper_parameters": {**saved["hyper_parameters"], "restorer": trap}}, path)
        with pytest.raises(UserError):
            load_method(path)
        line = f"test --config restore_then_fuse.yaml --config smoke.yaml --ckpt_path {path} --log_dir {tmp_path}/logs"
        assert main([*shlex.split(line), "--trainer.logger=false"]) == 1
    torch.save({**saved, "method": PATH}, path)
    with pytest.raises(UserError, match="which is not known here: if you trust it, add --import"):
        load_method(path)


@pytest.mark.parametrize(
    ("part", "trap"),
    [
        ("restorer", TRAP),
        pytest.param("fuser", TRAP, marks=pytest.mark.slow),
        pytest.param("fuser", PATH, marks=pytest.mark.slow),
        pytest.param("restorer", {"class_path": "Average", "init_args": TRAP}, marks=pytest.mark.slow),
    ],
)
def test_a_configuration_names_methods_only(part: str, trap: Any, tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump({"model": {"init_args": {part: trap}}}))
    line = (
        f"test --config restore_then_fuse.yaml --config smoke.yaml --config {tmp_path}/evil.yaml --log_dir {tmp_path}"
    )
    assert main(shlex.split(line)) != 0
    method = {"class_path": "RestoreThenFuse", "init_args": {part: trap}}
    for entry in (method, trap, {"checkpoint": trap}, {"folder": trap}):
        content = {"methods": {"x": entry}, "data": {"s": {"config": "synthetic.yaml", "length": 8, "scene_size": 32}}}
        content |= {"scenarios": ["clean"], "metrics": "MI"}
        (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(content))
        assert main(["benchmark", f"--config={tmp_path}/benchmark.yaml", f"--output={tmp_path}/out"]) != 0


@pytest.mark.parametrize(
    "key",
    ["restorer", *(pytest.param(key, marks=pytest.mark.slow) for key in ("optimizer", "scheduler", "metrics"))],
)
def test_no_argument_of_a_method_takes_any_class(key: str, tmp_path: Path) -> None:
    line = f"fit --config cled_stage2.yaml --config smoke.yaml --log_dir {tmp_path}"
    assert main([*shlex.split(line), f"--model.{key}={TRAP}"]) != 0


@pytest.mark.parametrize("key", ["root", *(pytest.param(key, marks=pytest.mark.slow) for key in ("folders", "config"))])
def test_no_data_set_of_a_benchmark_takes_any_class(key: str, tmp_path: Path) -> None:
    entry = {"config": "synthetic.yaml", "length": 8, key: TRAP}
    for data in (entry, TRAP):
        content = {"methods": {"x": "Average"}, "data": {"s": data}, "scenarios": ["clean"], "metrics": "MI"}
        (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(content))
        assert main(["benchmark", f"--config={tmp_path}/benchmark.yaml", f"--output={tmp_path}/out"]) != 0


def test_nothing_that_the_command_line_fills_in_may_be_anything() -> None:
    """The parser makes an object of every class that is named in an `Any`."""
    functions: list[Any] = [FusionData.__init__, *(method.__init__ for method in known_methods().values())]
    for module in pkgutil.iter_modules(fusion_lightning.commands.__path__):
        if module.name in FUNCTION_COMMANDS:
            functions.append(getattr(importlib.import_module(f"fusion_lightning.commands.{module.name}"), module.name))
    for function in functions:
        if not function.__module__.startswith("fusion_lightning."):
            continue
        hints = typing.get_type_hints(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name != "self":
                assert not set(_parts(hints[name])) & {Any, object}, (function.__qualname__, name)


def _parts(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        if isinstance(part, list):
            yield from part
        else:
            yield from _parts(part)


@pytest.mark.parametrize(
    "name",
    ["ClassicalRestorer", "fusion_lightning.methods.ClassicalRestorer", "fusion_lightning.methods.classical.Average"],
)
def test_a_known_class_is_found_by_every_name(name: str) -> None:
    assert type(build_method({"class_path": name})).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    "name", ["evil.ClassicalRestorer", "fusion_lightning.methods.base.torch", "os.Average", PATH, "."]
)
def test_another_class_is_not(name: str) -> None:
    assert find_method(name) is None
    with pytest.raises(UserError, match="there is no method"):
        build_method({"class_path": name})


def test_a_benchmark_knows_full_names(tmp_path: Path) -> None:
    parts = {"restorer": {"class_path": "fusion_lightning.methods.ClassicalRestorer"}}
    methods = {"x": {"class_path": "fusion_lightning.methods.RestoreThenFuse", "init_args": parts}}
    content = {"methods": methods, "data": {"s": {"config": "synthetic.yaml", "length": 8, "scene_size": 32}}}
    content |= {"scenarios": ["noise"], "metrics": "MI"}
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(content))
    assert main(["benchmark", f"--config={tmp_path}/benchmark.yaml", f"--output={tmp_path}/out"]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hyper_parameters", []),
        ("hyper_parameters", {1: 2}),
        ("state_dict", {"a": 1}),
        ("method", 3),
        ("loops", {}),
        pytest.param("loops", {"test_loop": 3}, marks=pytest.mark.slow),
        pytest.param("callbacks", [], marks=pytest.mark.slow),
        pytest.param("pytorch-lightning_version", 3, marks=pytest.mark.slow),
    ],
)
def test_damaged_parts_of_a_checkpoint_are_said(
    key: str, value: Any, stage1: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = torch.load(stage1, weights_only=True)
    torch.save({**saved, key: value}, tmp_path / "odd.ckpt")
    assert main(["test", *STAGE1, f"--ckpt_path={tmp_path / 'odd.ckpt'}", f"--log_dir={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert "odd.ckpt" in said.splitlines()[-1]
    assert "traceback" not in said.lower()


def test_stage_2_holds_its_first_stage_as_plain_values() -> None:
    hint = typing.get_type_hints(CLEDStage2.__init__)["restorer"]
    assert Any not in set(_parts(hint))
    assert issubclass(CLEDStage2, FusionMethod)


@pytest.mark.parametrize(
    "arguments", [{"anything": TRAP, "more": {"x": TRAP, "y": [TRAP]}}, pytest.param(TRAP, marks=pytest.mark.slow)]
)
def test_what_may_be_anything_is_no_class_either(arguments: dict[str, Any], tmp_path: Path) -> None:
    """Lightning's own callbacks, loggers and plugins have such arguments."""
    callbacks = [{"class_path": f"{__name__}.Takes", "init_args": arguments}]
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    line = f"test --config average.yaml --config smoke.yaml --config {tmp_path}/evil.yaml"
    main([*shlex.split(line), "--trainer.logger=false", f"--log_dir={tmp_path}"])
