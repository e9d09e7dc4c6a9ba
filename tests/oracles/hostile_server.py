"""A loopback server that answers right, or in every wrong way that an endpoint may find. It logs each input asked.

The model is linear (`linear_oracle`). ``script`` says what the next requests meet, one word each; then ``always``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from linear_oracle import CLASSES, SHAPE, linear_weights
from PIL import Image

WEIGHTS = linear_weights(int(np.prod(SHAPE)), CLASSES)
NAMES = ("ant", "bee", "cat", "dog")


def truth(inputs):
    """Logits of the server's model."""
    return inputs.flatten(1) @ WEIGHTS


class HostileServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *script, always="right"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.script = list(script)
        self.always = always
        self.lock = threading.Lock()
        self.asked: Counter[bytes] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.asked_again: list[bytes] = []  # inputs that were asked although their answer had been sent
        self.requests: list[tuple[float, int]] = []  # time and number of inputs
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.descriptions = 0  # times that a description was asked for
        self.running = self.most_running = 0
        self.open = threading.Event()  # what "stalled" requests wait for
        self.cut = threading.Event()  # set when the client hangs up on a flood
        self.meeting = threading.Barrier(3)
        self.flooded = 0
        self.described: object = None

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return super().__enter__()

    def __exit__(self, *exception):
        self.open.set()
        self.shutdown()
        super().__exit__(*exception)

    def handle_error(self, request, client_address):
        pass  # clients hang up: that is what is tested


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HostileServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.descriptions += 1
        if self.server.described is None:
            self.send(404, b'{"error": "no description"}')
        else:
            self.send(200, json.dumps(self.server.described).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        inputs, reply = self.understood(body)
        keys = [row.numpy().tobytes() for row in inputs]
        server = self.server
        with server.lock:
            word = server.script.pop(0) if server.script else server.always
            server.requests.append((time.monotonic(), len(keys)))
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.paths.append(self.path)
            server.asked.update(keys)
            server.asked_again.extend(key for key in keys if key in server.answered)
            server.running += 1
            server.most_running = max(server.most_running, server.running)
        self.keys = keys
        try:
            getattr(self, word)(inputs, reply)
        finally:
            with server.lock:
                server.running -= 1

    def understood(self, body):
        """The inputs of a request, and how its protocol writes scores."""
        if self.path.startswith("/v2/"):
            (tensor,) = json.loads(body)["inputs"]
            inputs = torch.tensor(tensor["data"], dtype=torch.float32).reshape(-1, *SHAPE)
            return inputs, lambda scores: {
                "model_name": "m",
                "outputs": [{"name": "y", "shape": list(scores.shape), "datatype": "FP32", "data": flat(scores)}],
            }
        if self.path.startswith("/v1/"):
            inputs = torch.tensor(json.loads(body)["instances"], dtype=torch.float32)
            return inputs.reshape(-1, *SHAPE), lambda scores: {"predictions": scores.tolist()}
        if self.headers["content-type"] == "image/png":
            return picture(body)[None], lambda scores: [
                {"label": name, "score": score}
                for name, score in zip(NAMES, scores[0].softmax(0).tolist(), strict=True)
            ]
        inputs = torch.stack([picture(base64.b64decode(image)) for image in json.loads(body)["pictures"]])
        return inputs, lambda scores: {"results": [{"scores": row} for row in scores.tolist()]}

    def send(self, status, body, *, cut=None, **headers):
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if status == 200 and cut is None:
            with self.server.lock:
                self.server.answered.update(getattr(self, "keys", []))
        self.wfile.write(body[:cut])

    def right(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs))).encode())

    def slow(self, inputs, reply):
        time.sleep(0.05 * torch.rand(1, generator=torch.Generator().manual_seed(len(self.server.requests))).item())
        self.right(inputs, reply)

    def late(self, inputs, reply):
        self.server.open.wait(3)  # the client's time-out in the tests is shorter
        self.send(200, b"{}", cut=0)

    def together(self, inputs, reply):
        self.server.meeting.wait(20)
        self.right(inputs, reply)

    def stalled(self, inputs, reply):
        self.server.open.wait(60)
        self.close_connection = True

    def dribble(self, inputs, reply):
        self.send(200, b"{" + b" " * 1000, cut=1)
        with contextlib.suppress(OSError):
            for _ in range(60):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)

    def dropped(self, inputs, reply):
        body = json.dumps(reply(truth(inputs))).encode()
        self.send(200, body, cut=len(body) // 2)
        self.hang_up()

    def dropped_at_once(self, inputs, reply):
        self.hang_up()

    def hang_up(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        self.connection.close()

    def busy(self, inputs, reply):
        self.send(429, b'{"error": "slow down"}', retry_after="0")

    def busy_for_a_second(self, inputs, reply):
        self.send(429, b'{"error": "slow down"}', retry_after="1")

    def busy_for_a_day(self, inputs, reply):
        self.send(429, b'{"error": "slow down"}', retry_after="86400")

    def broken(self, inputs, reply):
        self.send(500, b"<html>internal\r\n error</html>")

    def impatient(self, inputs, reply):
        self.send(408, b"")

    def loading(self, inputs, reply):
        self.send(503, b'{"error": "Model somebody/net is loading", "estimated_time": 0.6}')

    def loading_for_long(self, inputs, reply):
        self.send(503, b'{"error": "Model somebody/net is loading", "estimated_time": 1e5}')

    def continued(self, inputs, reply):
        """Interim responses without end, each well within the time-out."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(400):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self.wfile.flush()
                time.sleep(0.05)

    def continued_once(self, inputs, reply):
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.right(inputs, reply)

    def dripping(self, inputs, reply):
        """A head that never ends."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Header: ")
            for _ in range(400):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def spelled(self, inputs, reply):
        key = self.headers["authorization"].removeprefix("Bearer ")
        echo = "".join(f"\\u{ord(letter):04x}" for letter in key)
        self.send(403, f'{{"error": "no {echo} but {key[:8]} {base64.b64encode(key.encode()).decode()}"}}'.encode())

    def forbidden(self, inputs, reply):
        self.send(403, json.dumps({"error": f"bad key {self.headers['authorization']}"}).encode())

    def elsewhere(self, inputs, reply):
        self.send(307, b"", location=f"{self.server.url}/v2/models/other/infer")

    def too_few(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs)[:-1])).encode())

    def too_narrow(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs)[:, :-1])).encode())

    def liar(self, inputs, reply):
        document = reply(truth(inputs))
        document["outputs"][0]["data"].pop()
        self.send(200, json.dumps(document).encode())

    def nan(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs) * float("nan"))).encode())

    def huge(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs))).replace("0.", "1e999, 0.", 1).encode())

    def labels(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs).argmax(1))).encode())

    def label_too_large(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs).argmax(1) + CLASSES)).encode())

    def label_below_zero(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs).argmax(1) - CLASSES)).encode())

    def html(self, inputs, reply):
        self.send(200, b"<!doctype html>\n<title>Sign in</title>", content_type="text/html")

    def truncated(self, inputs, reply):
        self.send(200, json.dumps(reply(truth(inputs))).encode()[:-10])

    def nested(self, inputs, reply):
        self.send(200, b"[" * 1_000_000)

    def empty(self, inputs, reply):
        self.send(200, b"")

    def gzip(self, inputs, reply):
        self.send(200, b"\x1f\x8b" + b"0" * 100, content_encoding="gzip")

    def flood(self, inputs, reply):
        self.pour(content_length=str(2 * 2**30))

    def silent_flood(self, inputs, reply):
        self.close_connection = True
        self.pour(connection="close")

    def pour(self, **headers):
        """2 GB of zeros, with or without saying so."""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        block = bytes(2**20)
        try:
            for _ in range(2048):
                self.wfile.write(block)
                self.server.flooded += len(block)
        except OSError:
            self.close_connection = True
            self.server.cut.set()


def flat(scores):
    return scores.flatten().tolist()


def picture(png):
    levels = np.asarray(Image.open(io.BytesIO(png)))
    return torch.from_numpy(levels.astype(np.float32) / 255)[None]
