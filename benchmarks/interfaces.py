"""One stolen net behind eight interfaces: is it recognised, or asked about, and never called unrelated?

A perceptron that subtracts its own mean and divides by its own deviation is tuned by a thief and exported to ONNX in
eight ways. Six schemes with a null of 19 twins judge each export as a person would describe it who knows only the file:
softmax last, probabilities rounded to three decimals, one-hot rows, an embedding of the classes' width as first output,
labels in another order with their names, uint8 input, a range of 0 to 255 that nobody mentions, and normalisation that
was left out of the file. "asked" counts suspects that were not judged because a question was put first. Strangers go
the same ways.

Run: python benchmarks/interfaces.py [-o benchmarks/results/interfaces.json]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from false_accusations import train_stack
from torch import Tensor, nn

import whorl
from whorl import ownership, populations
from whorl.bench.result import describe_machine
from whorl.data import SOURCES
from whorl.errors import WhorlError
from whorl.oracles.torch import TorchOracle
from whorl.storage import write_json

DATA, ALPHA, NULL, STRANGERS = "digits(size=8)", 0.05, 19, 20
SCHEMES = ("ipguard(learning_rate=0.01, patience=25)", "akh", "random", "tafa", "sac-normal", "multipoint")
TUNED = "fine_tune(all, epochs=1)"
ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]


class Outward(nn.Module):
    """A net as somebody exports it."""

    def __init__(self, net: nn.Module, way: str) -> None:
        super().__init__()
        self.net, self.way = net, way

    def forward(self, inputs: Tensor) -> Any:
        """Its answers to pictures ``[n, 1, 8, 8]``, in the units of its own input."""
        if self.way in ("uint8 input", "unsaid range"):
            inputs = inputs.float() / 255
        if self.way == "no mean and std":
            inputs = inputs * self.net.std + self.net.mean  # what the net itself will take away again
        logits = self.net(inputs)
        if self.way == "softmax last":
            return logits.softmax(1)
        if self.way == "rounded":
            return torch.round(logits.softmax(1) * 1000) / 1000
        if self.way == "one-hot":
            return nn.functional.one_hot(logits.argmax(1), 10).float()
        if self.way == "embedding first":
            return logits.flip(1).tanh(), logits
        return logits[:, ORDER] if self.way == "other order" else logits


WAYS = (
    *("softmax last", "rounded", "one-hot", "embedding first", "other order"),
    *("uint8 input", "unsaid range", "no mean and std"),
)
MUST = set(WAYS[:5])  # derived without a question


def export(net: nn.Module, way: str, path: Path) -> dict[str, Any]:
    """Write the graph; returns what its owner says of it."""
    example = torch.zeros(2, 1, 8, 8, dtype=torch.uint8 if way == "uint8 input" else torch.float32)
    outputs = ["embedding", "logits"] if way == "embedding first" else ["out"]
    axes = {name: {0: "n"} for name in ("in", *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Outward(net, way).eval(),
            (example,),
            str(path),
            input_names=["in"],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
    return {"class_names": [str(label) for label in ORDER]} if way == "other order" else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results/interfaces.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    data = SOURCES.make(DATA).load("victim")
    nets = train_stack(1 + NULL + STRANGERS, data, torch.Generator().manual_seed(77))
    known = {"input_shape": data.input_shape, "classes": 10}
    victim = TorchOracle(nets[0], name="victim", **known)
    twins = {f"twin {place}": net for place, net in enumerate(nets[1 : 1 + NULL])}
    copies = populations.copies(victim, [TUNED], data=DATA, count=14)
    stolen = populations.copies(victim, [TUNED], data=DATA, count=2, first_seed=500)[TUNED][0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}
        for way in WAYS:
            suspects = {"stolen": stolen.module} | {f"stranger {i}": net for i, net in enumerate(nets[1 + NULL :])}
            for name, net in suspects.items():
                path = Path(folder) / f"{way}-{name}.onnx"
                paths[way, name] = path, export(net, way, path)
        for scheme in SCHEMES:
            bare = whorl.extract(victim, data=DATA, scheme=scheme, budget=100)
            fingerprint = ownership.calibrate(bare, twins, pool="twins", derived=copies)
            for way in WAYS:
                found: dict[str, Counter[str]] = defaultdict(Counter)
                reasons: list[str] = []
                for (how, name), (path, said) in paths.items():
                    if how == way:
                        try:
                            decision = whorl.verify(fingerprint, path, alpha=ALPHA, **said).decision
                        except WhorlError as error:
                            decision = "asked"
                            reasons.append(str(error)[:200].replace(folder, "FOLDER"))
                        found[name.split()[0]][decision] += 1
                rows.append(
                    {
                        "scheme": scheme,
                        "interface": way,
                        "stolen": next(iter(found["stolen"])),
                        "right": (stands := next(iter(found["stolen"]))) == "derived"
                        or (way not in MUST and stands != "unrelated"),
                        "strangers": dict(found["stranger"]),
                        "question": reasons[0] if reasons else "",
                    }
                )
                print(rows[-1], flush=True)
    write_json(
        options.output,
        {
            "alpha": ALPHA,
            "rows": rows,
            "wrong": sum(not row["right"] for row in rows),
            "seconds": round(time.perf_counter() - started, 1),
            "machine": describe_machine("cpu").model_dump(),
        },
    )


if __name__ == "__main__":
    main()
