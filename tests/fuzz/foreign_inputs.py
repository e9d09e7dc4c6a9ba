"""Everything that whorl reads from strangers.

``READERS[name](folder)`` gives a `Case` whose ``change`` makes bytes of random numbers and whose ``read`` takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from foreign_answers import answers, binary, description, metadata
from foreign_attestations import checkpoint as attested
from foreign_attestations import draw, envelope, log, stamp
from foreign_cases import Case, fault, in_file
from foreign_records import fingerprint, looks, record, secret, verdict
from foreign_weights import adapter, ask_graph, checkpoint, folder, graphs, skops
from mutated_inputs import changed_message

__all__ = ["READERS", "Case", "fault"]

READERS: dict[str, Callable[[Path], Case]] = {
    **{kind: partial(checkpoint, kind) for kind in ("safetensors", "weights", "torch archive", "torch row", "gguf")},
    "onnx weights": partial(checkpoint, "onnx weights"),
    "onnx graph": lambda folder: Case(graphs(), changed_message, in_file(folder, "graph.onnx", ask_graph), 0.5),
    "skops": skops,
    "folder of weights": folder,
    "adapter": adapter,
    "fingerprint 1": partial(fingerprint, 1),
    "fingerprint 2": partial(fingerprint, 2),
    "model.toml": description,
    **{f"answers {name}": partial(answers, name) for name in ("v2", "tensorflow", "huggingface", "template")},
    "answers v2 binary": binary,
    "v2 description": metadata,
    "record": record,
    "verdict": verdict,
    "looks": looks,
    "secret": secret,
    "envelope": envelope,
    "draw": draw,
    "checkpoint of a log": attested,
    "log": log,
    "time-stamp": stamp,
}
