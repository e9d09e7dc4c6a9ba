"""Everything that whorl reads from strangers: a valid example or a few, how each is changed, and who reads it.

``READERS[name](folder)`` gives a `Case` whose ``change`` makes bytes of random numbers and whose ``read`` takes them.
Nothing but a result or a `WhorlError` of one printable line may come back, soon and in little memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutated_inputs import (
    RAW,
    changed_bytes,
    changed_entry,
    changed_header,
    changed_json,
    changed_message,
    changed_value,
)

from whorl.checkpoints.opening import open_checkpoint
from whorl.checkpoints.roles import Weights
from whorl.detection import Trial
from whorl.errors import WhorlError
from whorl.fingerprints.looks import add_look, looks_path, read_looks
from whorl.fingerprints.secret import commit, read_secret, write_secret
from whorl.oracles.files import read_weights
from whorl.oracles.formats import AnswerFormat, InputFormat
from whorl.oracles.onnx import OnnxOracle
from whorl.oracles.open_inference import OpenInference
from whorl.oracles.opening import open_oracle
from whorl.oracles.protocols import HuggingFace, Protocol, Template, TensorFlowServing
from whorl.oracles.record import Record
from whorl.oracles.waiting import estimated, seconds
from whorl.report.saved import read_verdict, verdict_in
from whorl.schemes.opening import read_fingerprint
from whorl.storage import canonical_json, digest_tensors
from whorl.types import Access

GOLDEN = Path(__file__).parents[1] / "golden"
TENSORS = {
    "model.embed_tokens.weight": torch.ones(6, 4),
    "model.layers.0.mlp.up_proj.weight": torch.arange(32.0).reshape(8, 4).bfloat16(),
    "model.layers.0.mlp.down_proj.weight": torch.ones(4, 8, dtype=torch.float16),
    "steps": torch.tensor(3),
}
CONFIG = {"model_type": "llama", "num_attention_heads": 2, "hidden_size": 4, "num_hidden_layers": 1}


@dataclass(frozen=True)
class Case:
    """A reader with valid examples and a way to change them. ``share`` says how many inputs it deserves."""

    examples: list[Any]
    change: Callable[[Any, random.Random], bytes]
    read: Callable[[bytes], object]
    share: float = 1.0

    def input(self, number: int) -> bytes:
        """The input of a number, the same on every machine."""
        chance = random.Random(number)
        return self.change(chance.choice(self.examples), chance)


def fault(case: Case, data: bytes) -> str:
    """What is wrong with how ``data`` was answered; empty where nothing is."""
    try:
        case.read(data)
    except WhorlError as error:
        told = str(error)
        if not told.isprintable():
            return f"a message of several lines or with marks that steer a terminal: {told[:300]!r}"
        return f"a message of {len(told):,} characters: {told[:300]!r}" if len(told) > 2000 else ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    return ""


def _file(folder: Path, name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path = folder / name

    def written(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return written


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


def _graphs() -> list[Any]:
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


def _asked(path: Path) -> None:
    oracle = OnnxOracle(path, input_shape=(3, 2, 2), classes=3)
    oracle.answers(torch.zeros(2, 3, 2, 2))


def _checkpoint(kind: str, folder: Path) -> Case:
    if kind == "safetensors":
        return Case(_safetensors(), changed_header, _file(folder, "model.safetensors", _every_tensor), 2)
    if kind == "weights":
        return Case(_safetensors(), changed_header, _file(folder, "weights.safetensors", read_weights), 2)
    if kind == "gguf":
        return Case(_gguf(folder), changed_bytes, _file(folder, "model.gguf", _every_tensor), 2)
    if kind == "onnx weights":
        return Case(_graphs(), changed_message, _file(folder, "weights.onnx", _every_tensor), 2)
    if kind == "torch archive":
        return Case(_torch_files(True), changed_entry, _file(folder, "model.pt", _torch_file), 2)
    return Case(_torch_files(False), changed_bytes, _file(folder, "model.bin", _torch_file), 2)


def _torch_file(path: Path) -> None:
    read_weights(path)
    _every_tensor(path)


def _folder(folder: Path) -> Case:
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


def _adapter(folder: Path) -> Case:
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


def _fingerprint(number: int, folder: Path) -> Case:
    from safetensors.torch import load, save

    files = [GOLDEN / "v0.1" / "fingerprint.safetensors", GOLDEN / "v0.1" / "ipguard.safetensors"]
    examples = [path.read_bytes() for path in (files if number == 1 else [GOLDEN / "v0.2" / "fingerprint.safetensors"])]

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.3:
            return changed_header(data, chance)
        length = int.from_bytes(data[:8], "little")
        text = json.loads(data[8 : 8 + length])["__metadata__"]["whorl"]
        tensors = load(data)
        if chance.random() < 0.3:
            name = chance.choice(sorted(tensors))
            tensors[name] = _changed_tensor(tensors[name], chance)
        if number == 1:
            return save(tensors, {"whorl": changed_json(json.loads(text), chance).decode(errors="replace")})
        return _sealed(json.loads(text), tensors, chance)

    def read(path: Path) -> None:
        from whorl.fingerprints.files import read_fingerprint as without_its_scheme

        without_its_scheme(path)
        read_fingerprint(path)

    return Case(examples, change, _file(folder, "a.safetensors", read), 3)


def _changed_tensor(value: torch.Tensor, chance: random.Random) -> torch.Tensor:
    made = [
        value.double(),
        value.long(),
        value.flatten(),
        value[None],
        value[:0],
        torch.full(value.shape, float("nan")),
        torch.full(value.shape, -1e30),
        value.bool(),
        torch.zeros(()),
        value.half(),
        torch.full(value.shape, 2**62),
        value.to(torch.complex64),
    ]
    return chance.choice(made).contiguous().clone()


def _sealed(document: Any, tensors: dict[str, torch.Tensor], chance: random.Random) -> bytes:
    """A document of format 2 that is changed and sealed again, so that what lies behind the seals is reached."""
    from safetensors.torch import save

    part = chance.choice(("fingerprint", "fingerprint", "calibration", "looks", None))
    if part is None:
        document = changed_value(document, chance)
    else:
        document[part] = changed_value(document[part], chance)
    try:
        for name in ("fingerprint", "calibration"):
            if isinstance(section := document[name], dict) and isinstance(section.get("tensors"), dict):
                digests = section["tensors"]
                digests |= {each: digest_tensors({"": tensors[each]}) for each in digests if each in tensors}
        document["ids"]["fingerprint"] = _digest(document["fingerprint"])
        if document["calibration"]:
            document["calibration"]["fingerprint"] = document["ids"]["fingerprint"]
            document["ids"]["calibration"] = _digest(document["calibration"])
        text = canonical_json(document).decode()
    except (WhorlError, TypeError, KeyError, UnicodeError, AttributeError):
        text = json.dumps(document)
    try:
        return save(tensors, {"whorl": text})
    except UnicodeError:
        return save(tensors, {"whorl": "{}"})


def _digest(section: Any) -> str:
    return hashlib.sha256(canonical_json(section)).hexdigest()


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


def _description(folder: Path) -> Case:
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

    return Case([TOML, ENDPOINT], change, _file(folder, "model.toml", read), 2)


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


def _answers(name: str, _folder: Path) -> Case:
    make, bodies = _protocols()[name]
    count = 1 if name == "huggingface" else 2
    protocols = {access: make(AnswerFormat(access, 3, ("a", "b", "c"))) for access, _ in bodies}

    def change(body: tuple[Access, Any], chance: random.Random) -> bytes:
        return bytes([list(protocols).index(body[0])]) + changed_json(body[1], chance)

    def read(data: bytes) -> object:
        return list(protocols.values())[sum(data[:1]) % len(protocols)].answers(data[1:], count)

    return Case(bodies, change, read, 40)


def _binary(_folder: Path) -> Case:
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


def _metadata(_folder: Path) -> Case:
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


OWNER = {"access": "LABELS", "model": "m"}


def _record(folder: Path) -> Case:
    path = folder / "made.sqlite"
    keys = [bytes([number]) * 32 for number in range(3)]
    with closing(Record(path, OWNER, longest=24)) as record:
        record.resume("a", "strict")
        record.write(dict.fromkeys(keys, b"a" * 8))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    example = path.read_bytes()
    scratch = folder / "scratch.sqlite"

    def change(data: bytes, chance: random.Random) -> bytes:
        if chance.random() < 0.6:
            return changed_bytes(data, chance)
        scratch.write_bytes(data)
        values = (
            "NULL",
            "-1",
            "1e308",
            "x'00'",
            "'\x1b[2J'",
            "'\u202e'",
            "zeroblob(1000)",
            "''",
            "9223372036854775807",
        )
        tables = {"meta": ("name", "value"), "sessions": ("id", "purpose", "rule", "started", "finished"),
                  "answers": ("session", "key", "answer", "time", "seal")}  # fmt: skip
        table = chance.choice(list(tables))
        with closing(sqlite3.connect(scratch)) as connection, connection:
            try:
                connection.execute(
                    f"UPDATE OR REPLACE {table} SET {chance.choice(tables[table])} = {chance.choice(values)}"
                )
            except sqlite3.Error:
                connection.execute(f"DROP TABLE {table}")
        return scratch.read_bytes()

    def read(path: Path) -> None:
        for beside in ("-wal", "-shm", "-journal"):
            Path(f"{path}{beside}").unlink(missing_ok=True)
        with closing(Record(path, OWNER, longest=24)) as record:
            record.resume("a", "strict")
            record.read(keys)
            record.reopen("a")
            record.finish()

    return Case([example], change, _file(folder, "answers.sqlite", read), 0.5)


def _verdict(folder: Path) -> Case:
    fingerprint = read_golden()
    trial = Trial(fingerprint.calibration, size=len(fingerprint.queries), alpha=0.3)
    trial.update([1.0] * len(fingerprint.queries))
    verdict = trial.verdict(scheme=fingerprint.scheme, fingerprint="9f86d081884c7d65", suspect="a.onnx")
    document = json.loads(json.dumps(asdict(verdict)))
    combined = {"verdicts": [document], "decision": "derived", "p_value": 0.1, "alpha": 0.3}

    def read(path: Path) -> None:
        verdict_in(path)
        read_verdict(path)

    return Case([document, combined], changed_json, _file(folder, "verdict.json", read), 0.5)


def read_golden() -> Any:
    """The golden fingerprint of format 2, whose scheme may be of any name."""
    from whorl.fingerprints.files import read_fingerprint as without_its_scheme

    return without_its_scheme(GOLDEN / "v0.2" / "fingerprint.safetensors")


def _looks(folder: Path) -> Case:
    fingerprint, path = read_golden(), folder / "a.fp"
    for suspect in ("a", "b"):
        said = {"date": "2026-11-28T12:00:00Z", "rule": '{"alpha":0.05}', "decision": "unrelated"}
        add_look(path, fingerprint, suspect=suspect, **said)
    lines = looks_path(path).read_text().splitlines()

    def change(lines: list[str], chance: random.Random) -> bytes:
        made = [line.encode() for line in lines]
        place = chance.randrange(len(made))
        made[place] = changed_json(json.loads(lines[place]), chance)
        return b"\n".join(made) + b"\n"

    def read(_: Path) -> None:
        read_looks(path, fingerprint)

    return Case([lines], change, _file(folder, "a.fp.looks", read), 3)


def _secret(folder: Path) -> Case:
    write_secret(commit(1), folder / "made.json")
    document = json.loads((folder / "made.json").read_bytes())
    return Case([document], changed_json, _file(folder, "secret.json", read_secret), 5)


def _skops(folder: Path) -> Case:
    import skops.io
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(np.arange(12.0).reshape(6, 2), [0, 0, 1, 1, 2, 2])
    example = skops.io.dumps(tree)

    def read(path: Path) -> None:
        oracle = open_oracle(path, input_shape=(1, 1, 2), classes=3)
        oracle.answers(torch.zeros(1, 1, 1, 2))

    return Case([example], changed_entry, _file(folder, "tree.skops", read), 0.3)


READERS: dict[str, Callable[[Path], Case]] = {
    **{kind: partial(_checkpoint, kind) for kind in ("safetensors", "weights", "torch archive", "torch row", "gguf")},
    "onnx weights": partial(_checkpoint, "onnx weights"),
    "onnx graph": lambda folder: Case(_graphs(), changed_message, _file(folder, "graph.onnx", _asked), 0.5),
    "skops": _skops,
    "folder of weights": _folder,
    "adapter": _adapter,
    "fingerprint 1": partial(_fingerprint, 1),
    "fingerprint 2": partial(_fingerprint, 2),
    "model.toml": _description,
    **{f"answers {name}": partial(_answers, name) for name in ("v2", "tensorflow", "huggingface", "template")},
    "answers v2 binary": _binary,
    "v2 description": _metadata,
    "record": _record,
    "verdict": _verdict,
    "looks": _looks,
    "secret": _secret,
}
