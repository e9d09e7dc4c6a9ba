"""Descriptions of models, and answers of servers, as `foreign_cases.Case`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign_cases import Case, in_file
from mutated_inputs import (
    RAW,
    changed_bytes,
    changed_json,
)

from whorl.oracles.formats import AnswerFormat, InputFormat
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.opening import open_oracle
from whorl.oracles.protocols import HuggingFace, Protocol, Template, TensorFlowServing
from whorl.oracles.waiting import estimated, seconds
from whorl.types import Access

TOML = """kind = "torch"
path = "weights.safetensors"
architecture = "mlp(width=4)"
classes = 3
class_names = ["a", "b", "c"]
output = "logits"
access = "labels"

[input]
shape = [3, 2, 2]
range = [0, 1]
layout = "NCHW"
mean = [0.49, 0.48, 0.45]
std = [0.2, 0.2, 0.2]
channels = "RGB"
"""
ENDPOINT = """kind = "http"
url = "http://127.0.0.1:9/"
classes = 3
output = "probabilities"
first_label = 1

[input]
shape = [3, 2, 2]

[http]
protocol = "v2"
model = "m"
batch = 4
timeout = 1.5
key_env = "WHORL_KEY"
flat = true
budget = 10
"""


def description(folder: Path) -> Case:
    def change(text: str, chance: random.Random) -> bytes:
        lines = text.splitlines()
        for _ in range(chance.choice((1, 1, 2))):
            place = chance.randrange(len(lines))
            key, mark, _ = lines[place].partition(" = ")
            if mark and chance.random() < 0.7:
                lines[place] = (
                    key + mark + chance.choice((*RAW, "nan", "inf", "1979-05-27", "{a = 1}", "'x'", '"mlp()"'))
                )
            elif chance.random() < 0.5:
                lines.insert(chance.randrange(len(lines)), lines[place])
            else:
                del lines[place]
        data = "\n".join(lines).encode(errors="replace")
        return changed_bytes(data, chance) if chance.random() < 0.2 else data

    def read(path: Path) -> None:
        open_oracle(path, trust_hosts=("127.0.0.1:9",))

    return Case([TOML, ENDPOINT], change, in_file(folder, "model.toml", read), 2)


def _protocols() -> Mapping[str, tuple[Callable[[AnswerFormat], Protocol], list[tuple[Access, Any]]]]:
    rows, picture = [[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], InputFormat()

    def tensor(data: Any, shape: list[int], kind: str = "FP32") -> dict[str, Any]:
        return {"outputs": [{"name": "y", "datatype": kind, "shape": shape, "data": data}], "model_name": "m"}

    listed = [[{"label": "b", "score": 0.5}, {"label": "a", "score": 0.25}]] * 2
    return {
        "v2": (
            lambda outputs: OpenInference("m", picture, outputs),
            [
                (Access.LOGITS, tensor(rows, [2, 3])),
                (Access.PROBABILITIES, tensor([*rows[0], *rows[1]], [2, 3])),
                (Access.LABELS, tensor([1, 0], [2], "INT64")),
                (Access.PROBABILITIES, tensor(["0.5:1:b", "0.4:0:a"] * 2, [2, 2], "BYTES")),
            ],
        ),
        "tensorflow": (
            lambda outputs: TensorFlowServing("m", picture, outputs, "y"),
            [
                (Access.PROBABILITIES, {"predictions": rows}),
                (Access.LABELS, {"predictions": [1, 0]}),
                (Access.LOGITS, {"predictions": [{"y": row, "z": 1} for row in rows]}),
            ],
        ),
        "huggingface": (
            lambda outputs: HuggingFace("m", outputs),
            [(Access.PROBABILITIES, listed[0]), (Access.LABELS, listed[0])],
        ),
        "template": (
            lambda outputs: Template('{"x": {{ inputs | tojson }}}', "results[].s", picture, outputs),
            [
                (Access.PROBABILITIES, {"results": [{"s": row} for row in rows]}),
                (Access.PROBABILITIES, {"results": [{"s": each} for each in listed]}),
                (Access.LABELS, {"results": [{"s": "b"}, {"s": 0}]}),
            ],
        ),
    }


def answers(name: str, _folder: Path) -> Case:
    make, bodies = _protocols()[name]
    count = 1 if name == "huggingface" else 2
    protocols = {access: make(AnswerFormat(access, 3, ("a", "b", "c"))) for access, _ in bodies}

    def change(body: tuple[Access, Any], chance: random.Random) -> bytes:
        return bytes([list(protocols).index(body[0])]) + changed_json(body[1], chance)

    def read(data: bytes) -> object:
        return list(protocols.values())[sum(data[:1]) % len(protocols)].answers(data[1:], count)

    return Case(bodies, change, read, 40)


def binary(_folder: Path) -> Case:
    """An answer with its numbers behind the JSON, and the header that says where they begin."""
    data = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], "<f4").tobytes()
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"0.5:1:b", b"0.4:0:a") * 2)

    def output(kind: str, shape: list[int], rest: bytes) -> tuple[Any, bytes]:
        about = {"name": "y", "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(rest)}}
        return {"outputs": [about], "model_name": "m"}, rest

    bodies = [output("FP32", [2, 3], data), output("BF16", [2, 3], data[:12]), output("BYTES", [2, 2], texts)]
    protocol = OpenInference("m", InputFormat(), AnswerFormat(Access.PROBABILITIES, 3, ("a", "b", "c")))

    def change(body: tuple[Any, bytes], chance: random.Random) -> bytes:
        head = changed_json(body[0], chance) if chance.random() < 0.7 else json.dumps(body[0]).encode()
        rest = changed_bytes(body[1], chance) if chance.random() < 0.5 else body[1]
        told = str(len(head)) if chance.random() < 0.9 else chance.choice(RAW)[:30]
        return told.encode("latin-1", "replace") + b"\0" + head + rest

    def read(data: bytes) -> object:
        told, _, body = data.partition(b"\0")
        return protocol.answers(body, 2, told.decode("latin-1"))

    return Case(bodies, change, read, 40)


def metadata(_folder: Path) -> Case:
    """A v2 server's description of its model, and how an endpoint says that it is busy."""
    document = {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 3, 2, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    protocol = OpenInference("m", InputFormat(), AnswerFormat(Access.LOGITS, 3))

    def read(data: bytes) -> None:
        estimated(data)
        seconds(data[:100].decode("latin-1"))
        protocol.extended(data)
        protocol.described(data, (3, 2, 2)).request(torch.zeros(1, 3, 2, 2))

    return Case([document, {"estimated_time": 20.0, "error": "loading"}], changed_json, read, 20)
