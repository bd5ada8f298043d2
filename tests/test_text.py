"""Names that are more than names arrive as the text that they are, and lead nowhere."""

import re
from pathlib import Path

import pytest
import yaml

from fusion_lightning.commands.benchmark.store import slug
from fusion_lightning.commands.manifest import Manifest
from fusion_lightning.errors import UserError
from fusion_lightning.main import main
from fusion_lightning.text import counted, latex_text, markdown_text, printable

LIVE = [
    r"\input{secret}",
    r"a$x^2",
    "a}b{c",
    "a~b%c#d&e_f",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert)",
]
LIVE += [
    "`x`",
    "**x** _y_",
    "a|b",
    "# x",
    "1. x",
    "&lt;b&gt;",
    "https://x.y",
    "\x1b[2J\x1b]0;x\x07",
    "a\r\nb",
    "\u202etxt",
]


def _as_latex_prints(text: str) -> str:
    assert not text.startswith(("[", "*"))
    text = text.removeprefix("{}")
    named = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~"}
    named |= {"textless": "<", "textgreater": ">", "textbar": "|"}
    for command, character in named.items():
        text = text.replace(rf"\{command}{{}}", f"\0{character}")
    assert not re.search(r"(?<![\\\0])[{}$^~%#&_]", text)
    assert not re.search(r"(?<!\0)\\[a-z]", text)
    return re.sub(r"[\0\\](.)", r"\1", text)


@pytest.mark.parametrize(("count", "said"), [(0, "0 pairs"), (1, "1 pair"), (2, "2 pairs")])
def test_one_thing_is_no_plural(count: int, said: str) -> None:
    assert counted(count, "pair") == said


@pytest.mark.parametrize("name", LIVE, ids=repr)
def test_latex_prints_a_name_as_it_is(name: str) -> None:
    assert _as_latex_prints(latex_text(name)) == printable(name)


@pytest.mark.parametrize("name", LIVE, ids=repr)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    (opened, inline, closed) = markdown.parse(markdown_text(name, line=True))
    assert (opened.type, closed.type) == ("paragraph_open", "paragraph_close")
    assert {token.type for token in inline.children} <= {"text", "text_special"}
    assert "".join(token.content for token in inline.children) == printable(name)


def test_nothing_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[2Jfit"]) == 2
    assert main(["fuse", "--checkpoint=\x1b[2J.ckpt", "--source-a=a\nb", "--source-b=b", "--output=o"]) == 1
    assert main(["evaluate", "--\x1b[31m", "x"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["..", ".", "", "../../x", "/etc/x", "...", "x" * 400, "ß" * 200, "con/../.."])
def test_a_name_becomes_a_file_of_its_own_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{slug(name)}.json"
    path.write_text("")
    assert path.resolve().parent == tmp_path
    assert not path.name.startswith(".")


def test_names_in_a_benchmark_are_no_commands_and_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latex, markdown = [r"a\input{x}", "c$x^2", "\x1b[2J"], ["<img src=x>", "[click](javascript:alert)", "\x1b[2J"]
    methods = [*latex, *markdown[:2], "_hidden"]
    data = {"config": "synthetic.yaml", "length": 8, "scene_size": 64}
    content = {"methods": dict.fromkeys(methods, "Average"), "data": {"..": data}, "metrics": "MI"}
    content["scenarios"] = {"..": {"a": "identity", "b": "identity"}}
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "--config=b.yaml", "--output=deep/deeper/o", "--limit=1"]) == 0
    output = tmp_path / "deep" / "deeper" / "o"
    for report, live in (("report.tex", latex), ("report.md", markdown)):
        text = (output / report).read_text(encoding="utf-8")
        assert not [name for name in live if name in text]
    strays = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(output)]
    assert strays == [tmp_path / "b.yaml"]


def test_a_manifest_writes_into_its_own_folder_alone(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "out", {})
    for path in ("../x.png", "a/../../x.png", str(tmp_path / "x.png")):
        with pytest.raises(UserError, match="outside"):
            manifest.write(Path(path), b"x")
    assert not list(tmp_path.rglob("x.png"))
