"""1,000 queries against a real MLServer on this machine: time, and peak memory of the client.

The server runs in `.venv-mlserver` (made by `make test`), with the runtime of the tests.

Run: python benchmarks/endpoint.py [-o benchmarks/results/endpoint.json]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from whorl.bench.result import describe_machine
from whorl.oracles.opening import open_oracle
from whorl.oracles.recorded import Recorded
from whorl.storage import write_json
from whorl.testing import tiny_net

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from real_server import MLServer

QUERIES = 1000


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/endpoint.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = tiny_net()
    inputs = torch.rand(QUERIES, *net.input_shape, generator=torch.Generator().manual_seed(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        batch = torch.export.Dim("batch", min=1, max=4096)
        torch.onnx.export(net, (inputs[:2],), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
        (Path(folder) / "server").mkdir()
        server = MLServer(Path(folder) / "server")
        try:
            server.wait()
            url, name = server(path)
            for requests_at_once, per_request in ((1, 1), (1, 32), (4, 32)):
                settings = {"model": name, "batch": per_request, "concurrency": requests_at_once, "output": "logits"}
                oracle = open_oracle(url, input_shape=list(net.input_shape), classes=net.classes, **settings)
                answers = Path(folder) / f"{requests_at_once}-{per_request}.sqlite"
                before, started = peak_mib(), time.perf_counter()
                labels = Recorded(oracle, answers).labels(inputs)
                rows.append(
                    {
                        "batch": per_request,
                        "concurrency": requests_at_once,
                        "seconds": round(time.perf_counter() - started, 2),
                        "peak_mib": round(peak_mib()),
                        "peak_mib_added": round(peak_mib() - before),
                        "labels_equal_local": bool((labels == net(inputs).argmax(1)).all()),
                    }
                )
                print(rows[-1], flush=True)
        finally:
            server.stop()
    document = {"queries": QUERIES, "input": list(net.input_shape), "protocol": "Open Inference Protocol v2, JSON"}
    write_json(options.output, {**document, "machine": describe_machine("cpu").model_dump(), "rows": rows})


if __name__ == "__main__":
    main()
