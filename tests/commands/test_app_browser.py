"""The page in a real browser: what is shown and downloaded, and that nothing leaves this machine."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import pytest

from fusion_lightning.imaging.io import read_image, write_image
from fusion_lightning.main import main
from fusion_lightning.zoo import BEST

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SERVER = """
import sys
from fusion_lightning.main import main
from fusion_lightning.zoo import BEST
log = open(sys.argv[1], "a", buffering=1)
def watch(event, arguments):
    if event == "socket.connect":
        print(arguments[1][0] if isinstance(arguments[1], tuple) else "unix", file=log)
    if event == "socket.getaddrinfo":
        print(arguments[0], file=log)
sys.addaudithook(watch)
sys.exit(main(sys.argv[2:]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="needs `pip install '.[app]'`"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs `pip install playwright`"),
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium, called chromium or google-chrome"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The page's address, and the file in which its process writes down every host that it looks up or calls."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    called, folders = tmp_path / "called.txt", tmp_path / "tmp"
    folders.mkdir()
    command = [sys.executable, "-c", _SERVER, str(called), "app", f"--port={port}", "--device=cpu"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(folders), "OMP_NUM_THREADS": "1"}
    environment |= {"HTTP_PROXY": "http://192.0.2.1:9", "http_proxy": "http://192.0.2.1:9"}  # nobody is there
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"the page is at http://127.0.0.1:{port} (Ctrl-C ends it)\n"
        yield f"http://127.0.0.1:{port}", called
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
        assert not list(folders.glob("fusion_lightning-*")), "the uploads are still there"
    finally:
        process.kill()


@pytest.fixture
def page(server: tuple[str, Path]) -> Iterator[Any]:
    """The page in Chromium; it may call this machine alone, and so may the server."""
    from playwright.sync_api import sync_playwright

    address, called = server
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        urls: list[str] = []
        page.on("request", lambda request: urls.append(request.url))
        page.on("websocket", lambda socket: urls.append(socket.url))
        page.goto(address)
        yield page
        browser.close()
    assert len(urls) > 20
    assert {urlsplit(url).hostname for url in urls if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert "127.0.0.1" in called.read_text()
    assert set(called.read_text().split()) <= {"127.0.0.1", "localhost", "None", "unix"}


def _fuse(page: Any) -> None:
    page.get_by_role("button", name="Fuse", exact=True).click()


def test_two_files_are_uploaded_fused_scored_and_downloaded(page: Any, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(7000, 9000, (64, 80)).astype(np.uint16)
    write_image(tmp_path / "thermal.png", counts)
    write_image(tmp_path / "visible.png", np.random.default_rng(1).integers(0, 256, (64, 80, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    problem, (file_a, file_b) = page.locator("#problem"), (page.locator("input[type=file]").nth(i) for i in (0, 1))

    _fuse(page)
    problem.get_by_text("Choose two images first, or draw an example.").wait_for()
    file_b.set_input_files(tmp_path / "broken.png")
    file_a.set_input_files(tmp_path / "thermal.png")
    page.get_by_text("thermal").wait_for()
    page.get_by_text("broken").first.wait_for()
    _fuse(page)
    problem.get_by_text("name its tone window").wait_for()
    page.get_by_role("button", name="How the files are read").click()
    page.get_by_label("window a").fill("raw:7000,9000")
    page.get_by_label("window a").press("Enter")
    page.get_by_label("16", exact=True).check()
    assert page.get_by_label("Method").input_value() == BEST
    _fuse(page)
    problem.get_by_text(re.compile("cannot decode the image broken.png", re.IGNORECASE)).wait_for()
    page.get_by_label("Clear").last.click()
    page.locator("input[type=file]").last.set_input_files(tmp_path / "visible.png")
    page.get_by_text("visible").last.wait_for()
    _fuse(page)
    page.get_by_text("scored against the sources").wait_for()
    assert not problem.is_visible()
    with page.expect_download() as download:
        page.get_by_text("Download the fusion").click()
    assert download.value.suggested_filename == "thermal_fused.png"
    command = ["fuse", f"--source-a={tmp_path}/thermal.png", f"--source-b={tmp_path}/visible.png"]
    assert main([*command, "--window-a=raw:7000,9000", "--bits=16", f"--output={tmp_path}/out"]) == 0
    np.testing.assert_array_equal(read_image(download.value.path()), read_image(tmp_path / "out" / "thermal.png"))


def test_the_page_has_no_other_name(server: tuple[str, Path]) -> None:
    request = Request(server[0], headers={"Host": "elsewhere.example"})
    with pytest.raises(HTTPError, match="400"):
        build_opener(ProxyHandler({})).open(request)


def test_an_example_is_drawn_degraded_and_compared_with_either_source(page: Any) -> None:
    page.get_by_role("button", name="Degrade a clean pair first").click()
    assert page.get_by_label("Balance").first.is_visible()
    page.get_by_label("Method").click()
    page.get_by_role("option", name="laplacian").click()
    page.get_by_label("Balance").first.wait_for(state="hidden")
    page.get_by_label("low light").first.fill("4")
    page.get_by_label("low light").first.press("Enter")
    assert not page.get_by_label("Find out what went wrong").first.is_visible()
    page.get_by_label("Bring source a into the frame of b first").check()
    page.get_by_role("button", name="Draw a street").click()
    page.get_by_text(re.compile("Source a (moved by|is not aligned)")).wait_for()
    page.get_by_text("scored against the clean sources").wait_for()
    page.get_by_text("source b | fusion").wait_for()
    page.get_by_label("beside source a").check()
    page.get_by_text("source a | fusion").wait_for()
    # both images of the slider, and both sources
    shown = "[...document.querySelectorAll('img')].filter(image => image.src.includes('/file='))"
    page.wait_for_function(f"{shown}.length >= 4 && {shown}.every(image => image.naturalWidth === 320)")
