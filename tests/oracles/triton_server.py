"""A loopback server that speaks the Open Inference Protocol as Triton does: tensors as bytes, and the best classes.

It is written from the protocol's text alone and shares nothing with whorl's own reading of it. The model is linear
(`linear_oracle`). ``spoil`` changes an answer before it is sent.
"""

from __future__ import annotations

import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from linear_oracle import CLASSES, SHAPE, linear_weights

WEIGHTS = linear_weights(int(np.prod(SHAPE)), CLASSES).numpy()
CODES = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
CODES |= {f"{sign}INT{bits}": f"<{'u' if sign else 'i'}{bits // 8}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
EXTENSIONS = ["classification", "binary_tensor_data"]


def read(data: bytes, kind: str) -> np.ndarray:
    if kind == "BF16":
        return np.array([struct.unpack("<f", b"\0\0" + data[k : k + 2])[0] for k in range(0, len(data), 2)])
    return np.frombuffer(data, CODES[kind])


def written(values: np.ndarray, kind: str) -> bytes:
    if kind == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values.ravel())
    return values.astype(CODES[kind]).tobytes()


class TritonServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        takes="FP32",
        gives="FP32",
        extensions=EXTENSIONS,
        described=True,
        spoil=lambda head, rest: (head, rest, None),
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.takes, self.gives, self.extensions, self.spoil = takes, gives, extensions, spoil
        self.described = described
        self.asked: list[dict] = []  # the JSON of each request
        self.inputs: list[np.ndarray] = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return super().__enter__()

    def __exit__(self, *exception):
        self.shutdown()
        super().__exit__(*exception)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TritonServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        described = {
            "/v2": {"name": "triton", "extensions": self.server.extensions},
            "/v2/models/m": {
                "inputs": [{"name": "x", "datatype": self.server.takes, "shape": [-1, *SHAPE]}],
                "outputs": [{"name": "y", "datatype": self.server.gives, "shape": [-1, CLASSES]}],
            },
        }
        hidden = (self.path == "/v2" and self.server.extensions is None) or not self.server.described
        found = None if hidden else described.get(self.path)
        self.reply(200 if found else 404, json.dumps(found or {"error": "nothing here"}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        split = self.headers["inference-header-content-length"]
        request = json.loads(body[: int(split)] if split else body)
        (tensor,) = request["inputs"]
        if split:
            rest = body[int(split) :]
            assert tensor["parameters"]["binary_data_size"] == len(rest)
            values = read(rest, tensor["datatype"])
        else:
            values = np.array(tensor["data"])
        assert tensor["datatype"] == self.server.takes
        inputs = values.reshape(tensor["shape"]).astype(np.float64)
        self.server.asked.append(request)
        self.server.inputs.append(inputs)
        scores = np.exp(inputs.reshape(len(inputs), -1) @ WEIGHTS)
        scores /= scores.sum(1, keepdims=True)
        wanted = {}
        for output in request.get("outputs", []):
            assert output["name"] == "y"
            wanted = output.get("parameters", {})
        if k := wanted.get("classification"):
            best = np.argsort(-scores, 1)[:, :k]
            texts = [f"{row[c]:f}:{c}:name {c}" for row, places in zip(scores, best, strict=True) for c in places]
            self.answer({"datatype": "BYTES", "shape": [len(scores), k], "data": texts}, b"")
        elif wanted.get("binary_data") or request.get("parameters", {}).get("binary_data_output"):
            data = written(self.given(scores), self.server.gives)
            about = {"datatype": self.server.gives, "shape": list(scores.shape)}
            self.answer(about | {"parameters": {"binary_data_size": len(data)}}, data)
        else:
            about = {"datatype": self.server.gives, "shape": list(scores.shape)}
            self.answer(about | {"data": self.given(scores).ravel().tolist()}, b"")

    def given(self, scores):
        if self.server.gives.startswith(("FP", "BF")):
            return scores
        top = scores == scores.max(1, keepdims=True)
        return top if self.server.gives == "BOOL" else top.astype(int)

    def answer(self, about, rest):
        head, rest, told = self.server.spoil({"model_name": "m", "outputs": [{"name": "y"} | about]}, rest)
        text = json.dumps(head).encode()
        headers = {"inference-header-content-length": str(len(text)) if told is None else told} if rest or told else {}
        self.reply(200, text + rest, **headers)

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
