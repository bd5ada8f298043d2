"""What can be named is listed by the code that knows it, and can be read."""

import re

import pytest
from rich.cells import cell_len

from fusion_lightning.configuration import config_folder
from fusion_lightning.degradations import EFFECTS, SCENARIOS
from fusion_lightning.main import main
from fusion_lightning.methods.loading import known_methods
from fusion_lightning.metrics import METRICS
from fusion_lightning.zoo import models

KNOWN = {
    "models": list(models()),
    "methods": ["laplacian", "overlay:ALPHA", "gifnet=FILE", "LaplacianPyramid", "CLEDStage2"],
    "metrics": list(METRICS),
    "degradations": list(EFFECTS),
    "scenarios": list(SCENARIOS),
    "data": [path.name for path in (config_folder() / "data").glob("*.yaml")],
    "configs": [path.name for path in config_folder().rglob("*.yaml") if path.parent.name != "data"],
}


@pytest.mark.parametrize("kind", [None, *KNOWN])
def test_a_list_has_a_line_for_every_name(kind: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *([kind] if kind else [])]) == 0
    ours = {one.__name__ for one in known_methods().values() if not one.__module__.startswith("fusion_lightning.")}
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:]]
    # each is one line, with words behind the name; other tests' own methods need not have any
    found = {name: what.strip() for name, what in (line for line in lines if line[0] not in ours)}
    assert set(KNOWN[kind] if kind else KNOWN) <= set(found)
    assert kind == "methods" or len(found) == len(KNOWN[kind] if kind else KNOWN)
    assert all(len(what) > 3 for what in found.values())


@pytest.mark.parametrize("kind", KNOWN)
def test_a_terminal_of_80_columns_breaks_no_word(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["list", kind])
    words = set(capsys.readouterr().out.split())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list", kind]) == 0
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(cell_len, printed.splitlines())) <= 80
    assert kind == "scenarios" or set(printed.split()) <= words  # specifications have no spaces, and can be long


def test_a_model_is_listed_with_what_its_catalogue_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "models", "--format=markdown"]) == 0
    printed = capsys.readouterr().out
    for model in models().values():
        row = next(line for line in printed.splitlines() if line.startswith(f"| {model.name} |"))
        assert all(word in row for word in (model.method, model.use, model.data, model.licence, *model.scores))
