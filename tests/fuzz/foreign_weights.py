"""Weights, graphs and trees that strangers wrote, as `foreign_cases.Case`."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign_cases import Case, in_file
from mutated_inputs import (
    changed_bytes,
    changed_entry,
    changed_header,
    changed_json,
    changed_message,
)

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.oracles.files import read_weights
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.opening import open_oracle

TENSORS = {
    "model.embed_tokens.weight": torch.ones(6, 4),
    "model.layers.0.mlp.up_proj.weight": torch.arange(32.0).reshape(8, 4).bfloat16(),
    "model.layers.0.mlp.down_proj.weight": torch.ones(4, 8, dtype=torch.float16),
    "steps": torch.tensor(3),
}
CONFIG = {"model_type": "llama", "num_attention_heads": 2, "hidden_size": 4, "num_hidden_layers": 1}


def _every_tensor(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    weights = Weights(checkpoint)
    for name, entry in checkpoint.entries.items():
        checkpoint.read(name)
        if entry.shape and entry.shape[0]:
            checkpoint.stored(name, [0])
    for key in list(weights.structure.parts)[:20]:
        weights.read(*key)


def _safetensors() -> list[bytes]:
    from safetensors.torch import save

    return [save(TENSORS, {"a": "b"}), save({"w": torch.ones(2, 3), "empty": torch.ones(0, 2)})]


def _torch_files(archived: bool) -> list[bytes]:
    found = []
    for content in (TENSORS, {"state_dict": {"w": torch.nn.Parameter(torch.ones(3, 2).t())}, "epoch": 3}):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=archived)
        found.append(stream.getvalue())
    return found


def _gguf(folder: Path) -> list[bytes]:
    import gguf

    writer = gguf.GGUFWriter(folder / "made.gguf", "llama")
    writer.add_head_count(2)
    writer.add_array("general.tags", ["a", "b"])
    writer.add_array("tokenizer.ggml.tokens", [f"token {k}" for k in range(1100)])
    writer.add_tensor("token_embd.weight", np.ones((6, 4), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.arange(16, dtype=np.float32).reshape(4, 4))
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((8, 4), np.float16))
    packed = gguf.quantize(np.ones((2, 32), np.float32), gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("blk.0.ffn_down.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [(folder / "made.gguf").read_bytes()]


def graphs() -> list[Any]:
    import onnx

    texts = (
        "g (float[n, 3, 2, 2] x) => (float[n, 3] y) <float[3] b = {1.0, 2.0, 3.0}> "
        "{ m = GlobalAveragePool(x)\n f = Flatten(m)\n s = Add(f, b)\n y = Softmax(s) }",
        "g (float[n, 12] x) => (int64[n] y) <float[12, 3] w = {" + ", ".join(["0.5"] * 36) + "}> "
        "{ s = MatMul(x, w)\n y = ArgMax <axis = 1, keepdims = 0> (s) }",
        "g (float[n, 3] x) => (float[n, 3] y) { y = own.twice(x) }",
    )
    header = '<ir_version: 8, opset_import: ["" : 17, "own" : 1, "ai.onnx.ml" : 3]>'
    function = '<domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }'
    made = [onnx.parser.parse_model(header + text + (function if "own." in text else "")) for text in texts]
    raw = onnx.numpy_helper.from_array(np.ones(3, np.float32), "b")
    made[0].graph.initializer[0].CopyFrom(raw)
    return made


def ask_graph(path: Path) -> None:
    oracle = OnnxOracle(path, input_shape=(3, 2, 2), classes=3)
    oracle.answers(torch.zeros(2, 3, 2, 2))


def checkpoint(kind: str, folder: Path) -> Case:
    if kind == "safetensors":
        return Case(_safetensors(), changed_header, in_file(folder, "model.safetensors", _every_tensor), 2)
    if kind == "weights":
        return Case(_safetensors(), changed_header, in_file(folder, "weights.safetensors", read_weights), 2)
    if kind == "gguf":
        return Case(_gguf(folder), changed_bytes, in_file(folder, "model.gguf", _every_tensor), 2)
    if kind == "onnx weights":
        return Case(graphs(), changed_message, in_file(folder, "weights.onnx", _every_tensor), 2)
    if kind == "torch archive":
        return Case(_torch_files(True), changed_entry, in_file(folder, "model.pt", _torch_file), 2)
    return Case(_torch_files(False), changed_bytes, in_file(folder, "model.bin", _torch_file), 2)


def _torch_file(path: Path) -> None:
    read_weights(path)
    _every_tensor(path)


def folder(folder: Path) -> Case:
    """A folder of weights with its configuration and its index."""
    from safetensors.torch import save

    (folder / "model-1.safetensors").write_bytes(save(TENSORS))
    names = {
        "config.json": CONFIG,
        "model.safetensors.index.json": {"weight_map": dict.fromkeys(TENSORS, "model-1.safetensors")},
    }

    def change(name: str, chance: random.Random) -> bytes:
        return name.encode() + b"\0" + changed_json(names[name], chance)

    def read(data: bytes) -> None:
        changed, _, content = data.partition(b"\0")
        for name, document in names.items():
            valid = json.dumps(document).encode()
            (folder / name).write_bytes(content if name.encode() == changed else valid)
        _every_tensor(folder)

    return Case(list(names), change, read, 2)


def adapter(folder: Path) -> Case:
    from safetensors.torch import save

    base, tuned = folder / "base", folder / "adapter"
    base.mkdir()
    tuned.mkdir()
    (base / "model.safetensors").write_bytes(save(TENSORS))
    up = "base_model.model.model.layers.0.mlp.up_proj"
    weights = {f"{up}.lora_A.weight": torch.ones(2, 4), f"{up}.lora_B.weight": torch.ones(8, 2)}
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["up_proj"],
        "bias": "none",
        "rank_pattern": {},
    }
    valid = {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": save(weights)}

    def change(name: str, chance: random.Random) -> bytes:
        changed = changed_json(config, chance) if name.endswith("json") else changed_header(valid[name], chance)
        return name.encode() + b"\0" + changed

    def read(data: bytes) -> None:
        changed, _, content = data.partition(b"\0")
        for name, whole in valid.items():
            (tuned / name).write_bytes(content if name.encode() == changed else whole)
        checkpoint = open_checkpoint(tuned, base=base)
        for name in checkpoint.entries:
            checkpoint.read(name)

    return Case(list(valid), change, read)


def skops(folder: Path) -> Case:
    import skops.io
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, VotingClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    rows, labels = np.arange(12.0).reshape(6, 2) % 7, [0, 0, 1, 1, 2, 2]
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    models = [
        tree,
        GradientBoostingClassifier(n_estimators=2, random_state=0),
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=1, random_state=0),
        KNeighborsClassifier(1),
        SVC(),
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), SGDClassifier(loss="log_loss", random_state=0)),
        VotingClassifier([("a", make_pipeline(PolynomialFeatures(), tree)), ("b", tree)]),
    ]
    examples = [skops.io.dumps(model.fit(rows, labels)) for model in models]

    def read(path: Path) -> None:
        oracle = open_oracle(path, input_shape=(1, 1, 2), classes=3)
        oracle.answers(torch.zeros(1, 1, 1, 2))

    return Case(examples, changed_entry, in_file(folder, "model.skops", read), 0.3)
