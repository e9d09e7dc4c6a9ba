"""What an ONNX graph may hold before onnxruntime sees it. The file is read as plain data and nothing of it is run."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from whorl.errors import InvalidFile
from whorl.storage import one_line

__all__ = ["messages", "refuse_danger"]

MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 64  # functions that call one another; the modules of a net are nested some ten deep
# "" and ai.onnx are the same. com.microsoft holds onnxruntime's built-in operators, which quantised models use.
DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
GRAPHS: Final = frozenset({5, 10})  # AttributeProto.GRAPH and GRAPHS

Key = tuple[str, str, str]  # domain, name and overload of a function


def refuse_danger(model: Any, path: object) -> None:
    """Raise `InvalidFile` unless a ``ModelProto`` is safe to hand to onnxruntime.

    Refused are operators that are not onnxruntime's own, bodies that run more than once, and
    more than ``MAX_NODES`` nodes once every call of a function is replaced by the function's own nodes.
    """
    functions = {_key(function.domain, function.name, function): function for function in model.functions}
    if len(functions) < len(model.functions):
        raise InvalidFile(f"{path} defines a function twice; it is not run")
    counts: dict[Key, tuple[int, int]] = {}
    try:
        order = list(
            TopologicalSorter({key: _calls(body, functions) for key, body in functions.items()}).static_order()
        )
    except CycleError:
        raise InvalidFile(f"{path} holds a function that calls itself; it is not run") from None
    for key in order:
        counts[key] = _expanded(functions[key], functions, counts, path)
    _expanded(model.graph, functions, counts, path)
    for message in messages(model):
        _refuse_message(message, path)


def _key(domain: str, name: str, holder: Any) -> Key:
    return ("" if domain == "ai.onnx" else domain, name, getattr(holder, "overload", ""))


def _calls(body: Any, functions: dict[Key, Any]) -> set[Key]:
    keys = (_key(node.domain, node.op_type, node) for node in messages(body) if _is(node, "NodeProto"))
    return {key for key in keys if key in functions}


def _expanded(
    body: Any, functions: dict[Key, Any], counts: dict[Key, tuple[int, int]], path: object
) -> tuple[int, int]:
    """Number of nodes once all calls are replaced, and how deep the calls are nested."""
    nodes = depth = 0
    for message in messages(body):
        if not _is(message, "NodeProto"):
            continue
        key = _key(message.domain, message.op_type, message)
        called, below = counts.get(key, (0, -1))
        nodes, depth = nodes + 1 + called, max(depth, below + 1)
        if message.domain not in DOMAINS and key not in functions:
            name = one_line(ValueError(f"{message.domain}:{message.op_type}"), 100)
            raise InvalidFile(f"{path} needs the custom operator {name}, whose code would have to be loaded")
        if nodes > MAX_NODES:
            raise InvalidFile(
                f"{path} has more than {MAX_NODES:,} nodes, its functions written out, which is more than is run"
            )
        if depth > MAX_DEPTH:
            raise InvalidFile(f"{path} nests functions more than {MAX_DEPTH} deep, which is more than is run")
    return nodes, depth


def _refuse_message(message: Any, path: object) -> None:
    if not _is(message, "NodeProto"):
        return
    for attribute in message.attribute:
        if attribute.ref_attr_name and attribute.type in GRAPHS:
            raise InvalidFile(f"{path} hands a graph to a function, which may write it out without end; it is not run")
        # A body of anything but If is run once an element or until it says so: Loop, Scan, SequenceMap, BeamSearch.
        if message.op_type != "If" and (attribute.HasField("g") or attribute.graphs):
            name = one_line(ValueError(message.op_type), 60)
            raise InvalidFile(f"{path} holds the operator {name}, a loop that may never end; it is not run")
    if message.op_type in ("Loop", "Scan", "SequenceMap"):
        raise InvalidFile(f"{path} holds the operator {message.op_type}, a loop that may never end; it is not run")


def messages(root: Any) -> Iterator[Any]:
    """Every message below ``root``, a message or several, subgraphs included."""
    waiting: list[Any] = [root] if hasattr(root, "DESCRIPTOR") else list(root)
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "DESCRIPTOR") else value)


def _is(message: Any, kind: str) -> bool:
    return message.DESCRIPTOR.name == kind
