"""A stand-in of the Hugging Face hub on loopback, with huggingface_hub pointed at it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
from huggingface_hub import close_session

COMMIT = "0123456789abcdef" * 2 + "01234567"
LISTINGS = ("/api/datasets/", "/api/models/")


class Hub(ThreadingHTTPServer):
    """The routes of the hub that a download asks: what a repository holds, and one of its files."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, int] = {}  # what the listing claims instead of the truth
        self.plain: dict[str, tuple[int, bytes]] = {}  # answers given instead of a listing
        self.asked: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        for listing in LISTINGS:
            if path.startswith(listing):
                return self._listing(*path.removeprefix(listing).partition("/revision/")[::2])
        name, _, file = path.removeprefix("/").removeprefix("datasets/").partition(f"/resolve/{COMMIT}/")
        body = self.server.repositories.get(name, {}).get(file)
        self._send(404, b"") if body is None else self._send(200, body)

    do_HEAD = do_GET

    def _listing(self, name: str, revision: str) -> None:
        if name in self.server.plain:
            return self._send(*self.server.plain[name])
        if name not in self.server.repositories:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("", "main", COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = self.server.repositories[name].items()
        siblings = [{"rfilename": file, "size": self.server.sizes.get(file, len(body))} for file, body in files]
        self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, "ETag": f'"{sha256(body).hexdigest()}"'}
        for key, value in (known | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


def point_at(port: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub ask this port, with a cache and no token in ``cache``, until the test ends."""
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()


@contextmanager
def running_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, with the client pointed at it and its cache in ``folder``."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        point_at(server.server_port, folder / "cache", monkeypatch)
        yield server
        close_session()
        server.shutdown()
        thread.join()
