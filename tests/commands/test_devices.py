"""Where and in which number type commands compute."""

from pathlib import Path

import pytest
import torch
import yaml

from fusion_lightning.commands.devices import find_device, runs_in_bf16
from fusion_lightning.errors import UserError
from fusion_lightning.main import main

CPU = torch.device("cpu")


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_the_processor_multiplies_it(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert runs_in_bf16("auto", CPU) is native
    assert runs_in_bf16("bf16", CPU)
    assert not runs_in_bf16("fp32", CPU)


def test_unknown_devices_and_precisions_are_refused() -> None:
    with pytest.raises(UserError, match="precision"):
        runs_in_bf16("fp16", CPU)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--device nowhere is not there"):
        find_device("nowhere")


@pytest.mark.parametrize(("option", "expected"), [("auto", "bf16-mixed"), ("fp32", None)])
def test_a_run_trains_in_the_precision_and_writes_it_down(
    option: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    command = "fit --config ifcnn.yaml --config smoke.yaml --trainer.max_steps 1 --trainer.limit_val_batches 0"
    options = ["--trainer.accelerator", "cpu", "--precision", option, "--log_dir", str(tmp_path), "--run_id", "r"]
    assert main([*command.split(), *options]) == 0
    (written,) = tmp_path.glob("*/r/config.yaml")
    assert yaml.safe_load(written.read_text())["trainer"]["precision"] == expected
