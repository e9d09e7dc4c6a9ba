"""A real MLServer on loopback, for the tests and for benchmarks/endpoint.py."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
MLSERVER = ROOT / ".venv-mlserver" / "bin" / "mlserver"
RUNTIME = ROOT / "tests" / "oracles" / "mlserver_model"
PATIENCE = 120  # seconds for a server to start on a busy machine


class MLServer:
    """A real MLServer on loopback. Call it with an ``.onnx`` file, or an ``.npy`` of linear weights, to serve it."""

    def __init__(self, folder: Path) -> None:
        if not MLSERVER.exists():
            raise RuntimeError("MLServer is not installed in .venv-mlserver; type: make test")
        self.folder = folder
        http, grpc = _free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        settings = {
            "host": "127.0.0.1",
            "http_port": http,
            "grpc_port": grpc,
            "metrics_endpoint": None,
            "parallel_workers": 0,
            "debug": False,
            "load_models_at_startup": False,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(MLSERVER), "start", str(folder)],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(RUNTIME), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        self._ask("GET", "/v2/health/ready")

    def __call__(self, path: Path | str, name: str | None = None) -> tuple[str, str]:
        """Serve a file under ``name`` (its stem by default). Returns the address and the name."""
        path = Path(path)
        name = name or path.stem
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file in path.parent.glob(f"{path.name}*"):  # with the external data of an ONNX file
            shutil.copy(file, folder)
        settings = {
            "name": name,
            "implementation": "served_model.ServedModel",
            "parameters": {"uri": f"./{path.name}"},
        }
        (folder / "model-settings.json").write_text(json.dumps(settings))
        self._ask("POST", f"/v2/repository/models/{name}/load")
        self._ask("GET", f"/v2/models/{name}/ready")
        return self.url, name

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ask(self, method: str, path: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                opener.open(urllib.request.Request(self.url + path, method=method), timeout=PATIENCE).close()
                return
            except urllib.error.HTTPError as error:
                if method == "POST":
                    raise RuntimeError(f"MLServer refuses {path}: {error.read()[:500]!r}\n{self._said()}") from None
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"MLServer does not answer {path}:\n{self._said()}")

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
