"""What the outputs of an ONNX graph are made of.

The nodes are read once, in their order, and each value gets a kind that follows from the operator that makes it and
the kinds of what goes in. Nothing is run. A kind that cannot be told is ``scores``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

__all__ = ["Kind", "Made", "made_by"]

Kind = Literal["constant", "scores", "probabilities", "columns", "logs", "labels", "ranked"]
"""What a value is made of: nothing of the input; scores of any size, such as logits; rows of probabilities;
probabilities of independent columns; logarithms of either; whole classes or marks for them; or the largest of some
scores without their classes."""

RANKS: Final = frozenset({"ReduceMax", "ReduceMin", "Max", "Min", "TopK"})
MARKS: Final = frozenset({
    "ArgMax", "ArgMin", "Hardmax", "OneHot", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not",
    "And", "Or", "Xor", "Sign", "IsNaN", "IsInf", "NonZero", "LabelEncoder",
})  # fmt: skip
MAKERS: Final[dict[str, Kind]] = {
    "Softmax": "probabilities",
    "QLinearSoftmax": "probabilities",
    "LogSoftmax": "logs",
    "Sigmoid": "columns",
    "HardSigmoid": "columns",
    "QLinearSigmoid": "columns",
}
# What keeps a kind: moving values about, and arithmetic that rounds, averages or scales.
KEEPERS: Final = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose",
    "QuantizeLinear", "DequantizeLinear", "Clip", "Round", "Floor", "Ceil", "Mul", "Div", "Add", "Sub", "Sum", "Mean",
    "ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool", "GlobalMaxPool", "MaxPool", "Concat", "Split",
    "Slice", "Gather", "GatherElements", "GatherND", "Where", "Pad", "Expand", "Tile", "ScatterElements", "ScatterND",
    "Relu", "Abs", "Max", "Min", "QLinearMul", "QLinearAdd", "QLinearConcat", "QLinearGlobalAveragePool",
    "ArrayFeatureExtractor",
})  # fmt: skip
MOVERS: Final = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose", "Expand",
    "Clip", "Max", "Add",
})  # fmt: skip
NOTED: Final = {"ReduceSum": "sums", "ReduceL1": "sums", "Exp": "powers", "ReduceLogSumExp": "logs"}
UNLEARNED: Final = frozenset({
    "Exp", "Log", "Neg", "Reciprocal", "Pow", "Sqrt", "Softplus", "Tanh", "ReduceLogSumExp",
})  # fmt: skip


@dataclass(frozen=True)
class Made:
    """How one value came to be.

    Parameters:
        kind: what it is made of.
        after: the graph's outputs that it was computed from, itself included, as bits in the order of the outputs.
        unlearned: those of them that no weights lie between.
    """

    kind: Kind = "constant"
    after: int = 0
    unlearned: int = 0


def made_by(graph: Any, inputs: Sequence[str], outputs: Sequence[str]) -> list[Made]:
    """How each of ``outputs`` came to be.

    Parameters:
        graph: a checked ``GraphProto`` without calls of functions.
        inputs: names of what is asked, so not of weights.
        outputs: at most some ten; every value carries a bit for each.
    """
    reader = _Reader(graph, inputs, {name: 1 << place for place, name in enumerate(outputs)})
    for node in graph.node:
        reader.read(node)
    return [reader.made.get(name, Made("scores")) for name in outputs]


class _Reader:
    def __init__(self, graph: Any, inputs: Sequence[str], bits: dict[str, int]) -> None:
        self.made: dict[str, Made] = {tensor.name: Made() for tensor in graph.initializer}
        self.bits = bits
        self.wide = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) > 1}
        self.made |= {name: self._marked(name, Made("scores")) for name in inputs}
        self.ranked: dict[str, Kind] = {}  # what the largest were taken from
        self.root: dict[str, str] = {}  # where a value that was only moved began
        self.sums: dict[str, str] = {}  # value -> whose sum it is
        self.inverse: dict[str, str] = {}  # value -> whose inverse sum it is
        self.powers: dict[str, str] = {}  # value -> whose exponential it is
        self.logs: dict[str, str] = {}  # value -> whose log of summed exponentials it is
        self.raised: set[str] = set()  # 1 + exp(...), half of a sigmoid

    def read(self, node: Any) -> None:
        given = [name for name in node.input if name]
        known = [self.made.get(name, Made("scores")) for name in given]
        inside = any(attribute.HasField("g") for attribute in node.attribute)  # a branch may read anything
        kinds = self._kinds(node, given, [Made("scores")] if inside else known)
        after = unlearned = 0
        for each in known:
            after |= each.after
            unlearned |= each.unlearned
        op = node.op_type
        if not (op in KEEPERS | MARKS | RANKS | UNLEARNED or op in MAKERS) or self._weighted(op, given):
            unlearned = 0
        for place, (name, kind) in enumerate(zip(node.output, kinds, strict=False)):
            if name:
                self.made[name] = self._marked(name, Made(kind, after, unlearned))
                if op == "Constant" and _size(node) > 1:
                    self.wide.add(name)
                if place == 0:
                    self._trace(op, given, name)

    def _marked(self, name: str, made: Made) -> Made:
        bit = self.bits.get(name, 0)
        return Made(made.kind, made.after | bit, made.unlearned | bit)

    def _weighted(self, op: str, given: list[str]) -> bool:
        """Whether the arithmetic is with an own number for each column: a scale or an offset that was learned."""
        return op in ("Mul", "Add", "Sub", "Div", "Pow") and any(name in self.wide for name in given)

    def _kinds(self, node: Any, given: list[str], known: list[Made]) -> list[Kind]:
        """Kinds of the outputs, in order."""
        op, count = node.op_type, len(node.output)
        varying: list[Kind] = [each.kind for each in known if each.kind != "constant"]
        if not varying or op in ("Shape", "Size"):
            return ["constant"] * count
        if op in MAKERS:
            return [MAKERS[op]] * count
        if op == "TopK":
            self._rank(node, varying[0])
            return ["ranked", "labels"]
        if op in MARKS:
            return ["labels"] * count
        if op in ("ReduceMax", "ReduceMin") and varying[0] in ("probabilities", "columns"):
            self._rank(node, varying[0])
            return ["ranked"]
        if node.domain == "ai.onnx.ml" and (found := _classic(node)):
            return found
        return [self._written_out(op, given, varying) or self._kept(op, given, varying)] * count

    def _rank(self, node: Any, kind: Kind) -> None:
        self.ranked[node.output[0]] = kind

    def _written_out(self, op: str, given: list[str], varying: list[Kind]) -> Kind | None:
        """A softmax, a sigmoid or a logarithm that several nodes make together."""
        first, last = given[0], given[-1]
        if op == "Div" and self.sums.get(last) == self._rooted(first):
            return "probabilities"
        pairs = ((first, last), (last, first))
        if op == "Mul" and any(self.inverse.get(below) == self._rooted(above) for above, below in pairs):
            return "probabilities"
        # Not x / (1 + exp(-x)), which is an activation.
        above = self._kind(first) == "constant" or first in self.powers
        if last in self.raised and (op == "Reciprocal" or (op == "Div" and above)):
            return "columns"
        if op == "Sub" and self.logs.get(last) == self._rooted(first):
            return "logs"
        if op == "Log" and varying[0] in ("probabilities", "columns"):
            return "logs"
        if op == "Exp" and varying[0] == "logs":
            return "probabilities"
        return None

    def _kept(self, op: str, given: list[str], varying: list[Kind]) -> Kind:
        if op == "ScatterElements":  # the k largest put back to where they were
            varying = [self.ranked.get(self._rooted(name), self._kind(name)) for name in given]
        if op not in KEEPERS:
            return "scores"
        real = set(varying) - {"constant", "labels"}
        if not real:
            return "labels"
        if real <= {"probabilities", "columns"}:
            return "columns" if "columns" in real else "probabilities"
        return real.pop() if len(real) == 1 else "scores"

    def _kind(self, name: str) -> Kind:
        return self.made[name].kind if name in self.made else "scores"

    def _rooted(self, name: str) -> str:
        return self.root.get(name, name)

    def _trace(self, op: str, given: list[str], name: str) -> None:
        """Note what ``name`` is to the values before it."""
        varying = [each for each in given if self._kind(each) != "constant"]
        if not varying:
            return
        first = varying[0]
        if op in NOTED:
            getattr(self, NOTED[op])[name] = self._rooted(first)
        elif op == "Reciprocal" and first in self.sums:
            self.inverse[name] = self.sums[first]
        elif op == "Log" and self.sums.get(first, "") in self.powers:
            self.logs[name] = self.powers[self.sums[first]]
        elif op == "Add" and len(varying) == 1 and first in self.powers:
            self.raised.add(name)
        elif op in MOVERS and len(varying) == 1:
            self.root[name] = self._rooted(first)
            for notes in (self.sums, self.inverse, self.logs):
                if first in notes:
                    notes[name] = notes[first]


def _classic(node: Any) -> list[Kind]:
    """Labels and scores of the classifiers of ai.onnx.ml, by what they do to their scores."""
    settings = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Normalizer":
        return ["probabilities"] if settings.get("norm") and settings["norm"].s == b"L1" else ["scores"]
    if node.op_type not in ("TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"):
        return []
    after = settings["post_transform"].s if "post_transform" in settings else b"NONE"
    weights = np.array(settings["class_weights"].floats) if "class_weights" in settings else np.zeros(0)
    shares = node.op_type == "TreeEnsembleClassifier" and len(weights) > 0 and 0 <= weights.min() <= weights.max() <= 1
    probable = shares or ("prob_a" in settings and len(settings["prob_a"].floats) > 0)
    told: dict[bytes, Kind] = {b"SOFTMAX": "probabilities", b"SOFTMAX_ZERO": "probabilities", b"LOGISTIC": "columns"}
    return ["labels", told.get(after, "probabilities" if probable else "scores")]


def _size(node: Any) -> int:
    return max((math.prod(a.t.dims) for a in node.attribute if a.name == "value"), default=1)
