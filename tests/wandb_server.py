"""Just enough of a W&B server for a run to begin and be sent, and to break off."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PROJECT = {"id": "UA==", "name": "fusion_lightning", "entity": {"id": "RQ==", "name": "someone"}}
_RUN = {"id": "UnVu", "name": "r", "displayName": "r", "config": "{}", "historyLineCount": 0, "project": _PROJECT}
_ANSWERS: dict[str, Any] = {
    "viewer": {"id": "Vg==", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "latestLocalVersionInfo": None, "features": []},
    "model": {"id": "UA==", "bucket": None},
    "project": {"id": "UA==", "run": None, "bucket": None},
    "entity": {"id": "RQ=="},
    "upsertBucket": {"bucket": _RUN, "inserted": True, "configValidationWarnings": None},
    "createRunFiles": {"runID": "UnVu", "uploadHeaders": [], "files": []},
}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/graphql":
            operation = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(body)["query"])
            self.server.received.append(operation.group(1) if operation else "")  # type: ignore[attr-defined]
            self._reply({"data": _ANSWERS})
        else:
            self.server.received.append(self.path.rsplit("/", 1)[-1])  # type: ignore[attr-defined]
            self._reply({"limits": {}})

    def do_GET(self) -> None:
        self._reply({})

    def log_message(self, *arguments: Any) -> None:
        pass

    def _reply(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class WandbServer(ThreadingHTTPServer):
    """A server on a free port; ``received`` lists what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def die(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()
