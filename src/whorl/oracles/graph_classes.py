"""Which class each column of a graph's scores stands for, and whether the graph's own labels say the same.

A graph may state its classes: in a classifier of ai.onnx.ml, in the list of maps that it ends in, or as the table from
which it takes its label. Where it gives labels beside its scores, both must name one class; a supplier could otherwise
serve a copy's labels and show its scores under other classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from whorl.errors import OracleError, UsageError
from whorl.storage import one_line

__all__ = ["Classes", "Stated", "stated_by"]

MOVERS: Final = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout"})
CLASSIFIERS: Final = frozenset({"TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier", "ZipMap"})
LISTS: Final = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")
MOST: Final = 1 << 20  # classes in a table
STEPS: Final = 64  # nodes between an output and what states its classes
ROUNDING: Final = 2.0**-22  # of float32 scores: how far apart two may lie and yet be a tie, as a share of the largest

Value = int | str


@dataclass(frozen=True)
class Stated:
    """What a graph states of its classes.

    Parameters:
        outputs: by output, the class of each column, or of each column that its label is chosen by.
        lists: every other list of classes in the graph.
    """

    outputs: Mapping[str, tuple[Value, ...]]
    lists: frozenset[tuple[Value, ...]]

    def of(self, answer: str, labels: Sequence[str], count: int | None, path: object) -> tuple[Value, ...]:
        """The class of each column of ``answer``, as it or ``labels`` state it, in words where one does; else as the
        graph's only list of so many classes does.

        Empty where nothing is stated of ``count`` classes, any number where it is None. Raises `UsageError` where two
        outputs contradict each other.
        """
        told = {name: self.outputs[name] for name in (answer, *labels) if name in self.outputs}
        told = {name: each for name, each in told.items() if count in (None, len(each))}
        told = {name: each for name, each in told.items() if isinstance(each[0], str)} or told
        if len(different := dict(zip(told.values(), told, strict=True))) > 1:
            (one, first), (other, second) = list(different.items())[:2]
            first, second = (one_line(ValueError(each), 60) for each in (first, second))
            raise UsageError(
                f"{path} states its classes in two orders: {first} as {_shown(one)}, {second} as {_shown(other)}. Say "
                f"which is read: --set output_name={first}, or output_name={second}"
            )
        lists = different or {each: "" for each in self.lists if count in (None, len(each))}
        return next(iter(lists)) if len(lists) == 1 else ()


def stated_by(graph: Any) -> Stated:
    """What ``graph``, a checked ``GraphProto`` as it stands in the file, states of its classes. Nothing is run."""
    tracer = _Tracer(graph)
    outputs = {output.name: tracer.told(output.name) for output in graph.output}
    lists = (_listed(node) for node in graph.node if node.domain == "ai.onnx.ml")
    return Stated({name: told for name, told in outputs.items() if told}, frozenset(each for each in lists if each))


class _Tracer:
    def __init__(self, graph: Any) -> None:
        self.makers = {name: (node, place) for node in graph.node for place, name in enumerate(node.output) if name}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                held = next((each.t for each in node.attribute if each.name == "value"), None)
                self.tensors |= dict.fromkeys(node.output, held)

    def told(self, name: str, steps: int = STEPS) -> tuple[Value, ...]:
        """The classes of a label, of scores, or of a list of maps, in the order of the columns; empty if not stated."""
        node, _ = self.makers.get(name, (None, 0))
        if node is None or not steps or not node.input:
            return ()
        op = node.op_type
        if op in MOVERS or op in ("Normalizer", "Softmax"):
            return self.told(node.input[0], steps - 1)
        if op in CLASSIFIERS:
            return _listed(node)
        if op in ("ArrayFeatureExtractor", "Gather") and len(node.input) == 2:
            return _through(dict(enumerate(self._table(node.input[0]))), self.told(node.input[1], steps - 1))
        if op == "LabelEncoder":
            return _through(_encoder(node), self.told(node.input[0], steps - 1))
        return ()

    def _table(self, name: str) -> tuple[Value, ...]:
        from onnx import numpy_helper

        tensor = self.tensors.get(name)
        if tensor is None or not 0 < math.prod(tensor.dims) <= MOST:
            return ()
        try:
            values = numpy_helper.to_array(tensor).ravel().tolist()
        except Exception:  # a tensor that lies about itself makes onnx and numpy raise anything
            return ()
        return _values(values)


def _through(table: Mapping[Value, Value], chosen: Sequence[Value]) -> tuple[Value, ...]:
    """What ``table`` makes of the classes of the columns, which are 0, 1, ... where nothing was stated of them."""
    chosen = chosen or range(len(table))
    return tuple(table[each] for each in chosen) if all(each in table for each in chosen) else ()


def _encoder(node: Any) -> dict[Value, Value]:
    keys, values = ([], [])
    for each in node.attribute:
        held = list(each.ints) or list(each.strings) or list(each.floats)
        if each.name.startswith("keys_"):
            keys = _values(held)
        elif each.name.startswith("values_"):
            values = _values(held)
    return dict(zip(keys, values, strict=False))


def _listed(node: Any) -> tuple[Value, ...]:
    held = {each.name: list(each.strings) or list(each.ints) for each in node.attribute}
    return _values(next((held[name] for name in LISTS if held.get(name)), []))


def _values(held: Sequence[Any]) -> tuple[Value, ...]:
    """Whole numbers and words; nothing where another thing is among them."""
    found = [each.decode(errors="replace") if isinstance(each, bytes) else each for each in held]
    whole: list[Any] = [int(each) if isinstance(each, float) and each.is_integer() else each for each in found]
    return tuple(whole) if all(isinstance(each, int | str) for each in whole) else ()


class Classes:
    """From a graph's labels and columns to 0..count-1.

    Numbers that are first_label..first_label+count-1 are these classes, wherever their columns stand. Others stand in
    ascending order and are their own names, as words are in the order of their columns.

    Parameters:
        told: the class of each column, as the graph states it; empty where it does not.
        words: whether labels come as words.
        names: what the caller calls the classes, which words that are not stated must be among.

    Raises:
        UsageError: a class is stated twice, or words are given that nobody has listed.
    """

    def __init__(
        self, told: Sequence[Value], count: int, first_label: int, *, words: bool, names: Sequence[str], model: str
    ) -> None:
        told = told if len(told) == count else ()
        if len(set(told)) < len(told):
            raise UsageError(f"{model} states a class twice: {_shown(told)}. Export it with {count} different classes")
        self.model, self.first, self.count, self._told = model, first_label, count, told
        numbers = [each for each in told if isinstance(each, int)]
        plain = sorted(numbers) == list(range(first_label, first_label + count))
        self.names: tuple[str, ...] = ()
        if told and len(numbers) < count:
            self.names = tuple(map(str, told))
            self._places: dict[Value, int] = {value: place for place, value in enumerate(told)}
        elif words:
            if not names:
                raise UsageError(
                    f'{model} gives words and does not list them: give them, as in --set \'class_names=["no","yes"]\''
                )
            self._places = {name: place for place, name in enumerate(names)}
        elif told and not plain:
            self.names = tuple(map(str, sorted(numbers)))
            self._places = {value: place for place, value in enumerate(sorted(numbers))}
        else:
            self._places = {first_label + place: place for place in range(count)}
        places = [self._places[value] for value in told]
        self._order = None if places == sorted(places) else torch.tensor(places).argsort()

    def ordered(self, rows: Tensor) -> Tensor:
        """Scores ``[n, count]`` with their columns in the order of the classes."""
        return rows if self._order is None else rows[:, self._order]

    def of(self, labels: np.ndarray) -> Tensor:
        """The classes ``[n]`` that labels ``[n]`` are. Raises `OracleError` for one that is no class."""
        if labels.dtype.kind in "fc" and not (labels == np.round(labels)).all():
            raise OracleError(f"{self.model} gave {labels.dtype} {list(labels.shape)} where whole numbers are needed")
        found = _found(labels, self._places)
        if (found >= 0).all():
            return torch.from_numpy(found)
        wrong = labels[found < 0]
        if labels.dtype.kind == "O" or self.names:
            shown = one_line(ValueError(repr(wrong[0] if labels.dtype.kind == "O" else int(wrong[0]))), 60)
            raise OracleError(f"{self.model} gave the label {shown}; its classes are {_shown(list(self._places))}")
        highest = int(max(wrong, key=abs))
        one = self.first == 0 and labels.min() > 0 and highest == self.count
        raise OracleError(
            f"{self.model} gave a label outside {self.first}..{self.first + self.count - 1}: {highest}. If its labels "
            f"begin at {'1, set first_label=1' if one else 'another number, set first_label'}"
        )

    def hold(self, answer: str, scores: Tensor, output: str, labels: np.ndarray, own: Sequence[Value]) -> None:
        """Raise `OracleError` unless the output ``output`` says the classes at which ``answer`` is largest.

        ``own`` is what that output states as the class of each column, in words of its own; empty where it does not.

        Shape:
            scores: ``[n, count]``, in the order of the classes. labels: ``[n]``.
        """
        places = {value: self._places[told] for value, told in zip(own, self._told, strict=False)}
        found = torch.from_numpy(_found(labels, places or self._places))
        best = scores.max(1)
        said = scores.gather(1, found.clamp_min(0)[:, None])[:, 0]
        tied = best.values - said <= ROUNDING * scores.abs().amax(1)
        wrong = ((found < 0) | ~tied) & scores.isfinite().all(1)  # what is no number is refused by who reads it
        if not bool(wrong.any()):
            return
        row = int(wrong.nonzero()[0])
        classes = list(self._places)
        other, name = (one_line(ValueError(each), 60) for each in (output, answer))
        begins = ", first_label=1 where its labels begin at 1" if bool((found < 0).any()) and not self.names else ""
        raise OracleError(
            f"{self.model} contradicts itself: its output {other} says {one_line(ValueError(str(labels[row])), 40)} "
            f"where {name} is largest at class {classes[int(best.indices[row])]} ({int(wrong.sum())} of {len(scores)} "
            f"rows). Say which is read: --set output_name={other} takes its labels as they are served, "
            f"output_name={name} its scores alone{begins}"
        )


def _found(labels: np.ndarray, places: Mapping[Value, int]) -> np.ndarray:
    """The class of each label, -1 where it is none."""
    values, back = np.unique(labels, return_inverse=True)
    keys = [each if isinstance(each, str) else _whole(each) for each in values.tolist()]
    return np.array([places.get(key, -1) for key in keys], dtype=np.int64)[back.reshape(-1)]


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) and value == int(value) else -(1 << 62)


def _shown(values: Sequence[Value]) -> str:
    return one_line(ValueError(", ".join(map(str, values))), 120)
