"""Servers that W&B's package may find at WANDB_BASE_URL: one that takes a run, and those that do not."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PROJECT = {"id": "1", "name": "dqn-tests", "entity": {"id": "1", "name": "me"}}


class Server:
    """Answers what the package asks when a run begins and ends, and keeps the history that it uploads.

    Args:
        status: with which it answers; the content is right for 200 only.
    """

    def __init__(self, status: int = 200) -> None:
        self.history: list[dict[str, Any]] = []
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    content = gzip.decompress(content)
                answer = json.dumps(keep(self.path, json.loads(content))).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def go_away(self) -> None:
        """From now on connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            lines = content.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.history += [json.loads(line) for line in lines]
            return {}
        query = content["query"]
        if "RunResumeStatus" in query:
            return {"data": {"model": {"bucket": None, **_PROJECT}}}
        if "UpsertBucket" in query:
            bucket = {"id": "1", "name": content["variables"]["name"], "project": _PROJECT, "historyLineCount": 0}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "CreateRunFiles" in query:
            return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []}}}
        return {"data": {}}


@contextmanager
def unreachable(kind: str) -> Iterator[str]:
    """The address of a server to which no run can be brought: closed, silent, or answering with a status."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if kind.isdigit():
            server = Server(int(kind))
            yield server.url
            server.go_away()
            return
        if kind == "silent":
            listening.listen(16)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"  # unless listening, it refuses
