"""The `app` command: a page in the browser that fuses two images on this machine."""

import os
import signal
import socket
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

from fusion_lightning.errors import UserError, plain_reason
from fusion_lightning.zoo import ESTIMATOR

HOST = "127.0.0.1"
"""The only address the page is served at: no other machine reaches it."""


def app(
    methods: list[str] | None = None,
    estimator: str = ESTIMATOR,
    align: str = "classical",
    port: int = 7860,
    device: str = "auto",
) -> None:
    """Fuse two images in the browser, on a page that this machine serves to itself alone.

    The page sends nothing elsewhere and fetches nothing from elsewhere. Uploads and results lie in a temporary folder,
    which goes when the command ends: by Ctrl-C, or when it is terminated.

    Args:
        methods: More methods for the page's menu, each as ``fuse --method`` takes it: a ``.ckpt`` file written by
            ``fit``, ``ifcnn=FILE``, ``overlay:0.3`` …
        estimator: What finds out degradations where that is asked for, as in ``fuse --estimator``.
        align: What brings source a into the frame of b where that is asked for, as in ``fuse --align``.
        port: Where the page is served: ``http://127.0.0.1:PORT``.
        device: ``cpu``, ``cuda``, ``cuda:1`` …; ``auto`` takes a GPU when there is one.

    Raises:
        UserError: If Gradio is not installed, the port is taken, or something cannot be opened.
    """
    _check_port(port)
    if find_spec("gradio") is None:
        raise UserError("the page needs Gradio: pip install 'fusion_lightning[app]'")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the temporary folder goes then, too
    with tempfile.TemporaryDirectory(prefix="fusion_lightning-", ignore_cleanup_errors=True) as folder:
        # Gradio reads them when it is imported
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        # it asks its own server whether that is there, and a proxy could not tell
        beside = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        os.environ["no_proxy"] = f"{beside},{HOST}" if beside else HOST
        from fusion_lightning.commands.app.fusion import open_tools
        from fusion_lightning.commands.app.page import build_page, serve

        page = build_page(open_tools(methods or [], estimator, align, device), Path(folder))
        serve(page, HOST, port)
        try:
            print(f"the page is at http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            page.close(verbose=False)
            print("the page is closed")


def _check_port(port: int) -> None:
    """Refuse a port that nothing can be served at.

    Raises:
        UserError: If it is none, or taken.
    """
    if not 1 <= port <= 65535:
        raise UserError(f"--port must be a number from 1 to 65535, but got {port}")
    with socket.socket() as probe:
        if os.name != "nt":  # there the option means that a port may be taken from another program
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(f"--port {port} cannot be used ({plain_reason(error)}): give another one") from error
