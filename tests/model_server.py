"""A loopback server that puts any module behind the Open Inference Protocol and counts what it is asked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class ModelServer(ThreadingHTTPServer):
    """Serves ``module`` under the name ``m``. After ``stall_after`` answers it gives no more until ``open`` is set."""

    daemon_threads = True

    def __init__(self, module, input_shape, *, labels=False, stall_after=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.module, self.input_shape, self.labels = module, input_shape, labels
        self.stall_after = stall_after
        self.lock = threading.Lock()
        self.asked: Counter[bytes] = Counter()
        self.answered: Counter[bytes] = Counter()
        self.stalled, self.open = threading.Event(), threading.Event()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return super().__enter__()

    def __exit__(self, *exception):
        self.open.set()
        self.shutdown()
        super().__exit__(*exception)

    def handle_error(self, request, client_address):
        pass  # clients are killed: that is what is tested


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(404, {"error": "no description"})

    def do_POST(self):
        server = self.server
        (tensor,) = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"]
        inputs = torch.tensor(tensor["data"], dtype=torch.float32).reshape(-1, *server.input_shape)
        keys = [row.numpy().tobytes() for row in inputs]
        with server.lock:
            server.asked.update(keys)
            stalls = server.stall_after is not None and sum(server.answered.values()) >= server.stall_after
            if not stalls:
                server.answered.update(keys)
        if stalls:
            server.stalled.set()
            server.open.wait(60)
            self.close_connection = True
            return
        with torch.inference_mode():
            scores = server.module(inputs)
        output = {"name": "y", "shape": list(scores.shape), "datatype": "FP32", "data": scores.flatten().tolist()}
        if server.labels:
            labels = scores.argmax(1)
            output = {"name": "y", "shape": [len(labels)], "datatype": "INT64", "data": labels.tolist()}
        self.reply(200, {"model_name": "m", "outputs": [output]})

    def reply(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
